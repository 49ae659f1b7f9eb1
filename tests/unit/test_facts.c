/* SPDX-License-Identifier: MIT */
/* Tests of runtime/facts.c: what hosts print, and what they might print to do harm. What it makes is read back
 * with jansson. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "facts.h"

/* As an Alpine Linux with busybox prints it, after the greeting of a profile. */
static const char alpine[] =
	"Welcome to Alpine!\nexed-facts\n\n"
	"exed-facts 1\n"
	"hostname=cache1\nfqdn=cache1.example.net\ndomain=example.net\n"
	"kernel=Linux\nkernel_release=6.6.31-0-virt\n"
	"kernel_version=#1-Alpine SMP PREEMPT_DYNAMIC Fri, 17 May 2024\n"
	"machine=aarch64\narchitecture=aarch64\n"
	"os.id=alpine\nos.name=Alpine\nos.family=Alpine\nos.version=3.20.0\nos.major=3\n"
	"os.description=Alpine Linux v3.20\n"
	"processors.count=4\n"
	"memory=1004956\nswap=0\nswap_free=0\nmemory_available=911040\n"
	"virtual=kvm\nis_virtual=true\n"
	"uptime=86400\nboot_time=1795247735\nboot_id=1ad619bb-ff4d-48e5-a2f3-227bcf1358bf\n"
	"service_mgr=openrc\npkg_mgr=apk\n"
	"interfaces[]\ninterfaces.name=eth0\ninterfaces.mac=02:fc:00:00:00:01\n"
	"interfaces.mtu=1500\ninterfaces.state=up\n"
	"interfaces[]\ninterfaces.name=lo\ninterfaces.mtu=65536\n"
	"address=lo inet 127.0.0.1/8 host\naddress=eth0 inet6 fe80:0:0:0:fc:ff:fe00:1/64 link\n"
	"address=eth0 inet 10.0.0.7/16 global\naddress=eth0 inet 10.0.0.8/32 global\n"
	"address=eth0 inet6 fd00:0000:0000:0000:0000:0000:0000:0002/64 global\n"
	"address=gone0 inet 10.9.9.9/32 global\n"
	"default_ipv4.interface=eth0\ndefault_ipv4.gateway=10.0.0.1\n"
	"default_ipv6.interface=eth0\n"
	"default_ipv6.gateway=fe80:0000:0000:0000:0000:0000:0000:0001\n"
	"mounts[]\nmounts.device=/dev/vda3\nmounts.mount=/\nmounts.fstype=ext4\n"
	"mounts.options=rw,relatime\nmounts.size=9223372\nmounts.available=4000000\n"
	"mounts[]\nmounts.device=nas:/a\\040b\nmounts.mount=/srv/a\\040b\\134\nmounts.fstype=nfs4\n"
	"truncated=mounts\ntruncated=addresses\n"
	"end\nbye\n";

static json_t *parse(const char *text, size_t n)
{
	struct buf b = { 0 };
	struct err err = { 0 };
	json_error_t error;
	json_t *json;

	buf_puts(&b, "x");
	if (facts_parse(text, n, &b, &err))
		fail_msg("%s", err.message);
	json = json_loadb(b.data + 1, b.len - 1, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
	if (!json)
		fail_msg("%s", error.text);
	buf_deinit(&b);
	return json;
}

/* Between the first and the last line. */
static json_t *parse_inside(const char *lines)
{
	struct buf b = { 0 };
	json_t *json;

	buf_printf(&b, "exed-facts 1\n%send\n", lines);
	json = parse(b.data, b.len);
	buf_deinit(&b);
	return json;
}

static void refuses(const char *text, size_t n, const char *why)
{
	struct buf b = { 0 };
	struct err err = { 0 };

	buf_puts(&b, "kept");
	assert_int_equal(facts_parse(text, n, &b, &err), -ERR_INVALID);
	if (!strstr(err.message, why))
		fail_msg("\"%s\" has not \"%s\"", err.message, why);
	assert_int_equal(b.len, 4);
	buf_deinit(&b);
}

static void refuses_line(const char *line)
{
	struct buf b = { 0 };

	buf_printf(&b, "exed-facts 1\nhostname=a\n%s\nend\n", line);
	refuses(b.data, b.len, "line 2 of its facts");
	buf_deinit(&b);
}

static void is(json_t *json, const char *format, const char *want)
{
	char *got = json_dumps(json, JSON_ENCODE_ANY | JSON_COMPACT);

	if (!got || strcmp(got, want))
		fail_msg("%s: got %s, want %s", format, got ? got : "nothing", want);
	free(got);
}

static void field(json_t *json, const char *name, const char *want)
{
	is(json_object_get(json, name), name, want);
}

static void every_fact_has_its_name_and_type(void **state)
{
	json_t *json = parse(alpine, sizeof(alpine) - 1);

	(void)state;
	field(json, "hostname", "\"cache1\"");
	field(json, "kernel_release", "\"6.6.31-0-virt\"");
	field(json, "os", "{\"id\":\"alpine\",\"name\":\"Alpine\",\"family\":\"Alpine\","
			  "\"version\":\"3.20.0\",\"major\":\"3\","
			  "\"description\":\"Alpine Linux v3.20\"}");
	field(json, "processors", "{\"count\":4}");
	field(json, "memory", "1029074944");
	field(json, "swap", "0");
	field(json, "uptime", "86400");
	field(json, "is_virtual", "true");
	field(json, "truncated", "[\"mounts\",\"addresses\"]");
	json_decref(json);
}

static void lists_have_their_items_in_order(void **state)
{
	json_t *json = parse(alpine, sizeof(alpine) - 1);

	(void)state;
	is(json_array_get(json_object_get(json, "interfaces"), 0), "eth0",
	   "{\"ipv4\":[{\"address\":\"10.0.0.7\",\"prefix\":16,\"scope\":\"global\"},"
	   "{\"address\":\"10.0.0.8\",\"prefix\":32,\"scope\":\"global\"}],"
	   "\"ipv6\":[{\"address\":\"fe80::fc:ff:fe00:1\",\"prefix\":64,\"scope\":\"link\"},"
	   "{\"address\":\"fd00::2\",\"prefix\":64,\"scope\":\"global\"}],"
	   "\"name\":\"eth0\",\"mac\":\"02:fc:00:00:00:01\",\"mtu\":1500,\"state\":\"up\"}");
	is(json_array_get(json_object_get(json, "interfaces"), 1), "lo",
	   "{\"ipv4\":[{\"address\":\"127.0.0.1\",\"prefix\":8,\"scope\":\"host\"}],\"ipv6\":[],"
	   "\"name\":\"lo\",\"mtu\":65536}");
	field(json, "default_ipv4",
	      "{\"interface\":\"eth0\",\"gateway\":\"10.0.0.1\",\"address\":\"10.0.0.7\"}");
	field(json, "default_ipv6",
	      "{\"interface\":\"eth0\",\"gateway\":\"fe80::1\",\"address\":\"fd00::2\"}");
	field(json, "mounts",
	      "[{\"device\":\"/dev/vda3\",\"mount\":\"/\",\"fstype\":\"ext4\","
	      "\"options\":\"rw,relatime\",\"size\":9444732928,\"available\":4096000000},"
	      "{\"device\":\"nas:/a b\",\"mount\":\"/srv/a b\\\\\",\"fstype\":\"nfs4\"}]");
	json_decref(json);
}

static void a_host_without_disks_and_networks_has_empty_lists(void **state)
{
	json_t *json = parse_inside("kernel=Linux\n");

	(void)state;
	is(json, "all", "{\"mounts\":[],\"interfaces\":[],\"kernel\":\"Linux\"}");
	json_decref(json);
}

static void a_name_that_comes_twice_is_there_once(void **state)
{
	json_t *json = parse_inside("kernel=a\nkernel=b\nos.id=a\nos.id=b\n");

	(void)state;
	field(json, "kernel", "\"b\"");
	field(json, "os", "{\"id\":\"b\"}");
	json_decref(json);
}

static void text_is_made_utf8_and_escaped(void **state)
{
	static const char text[] = "exed-facts 1\nhostname=a\xff\"\\\x01\x1b[31m\0z\nfqdn=\xc3\xa4\n"
				   "mounts[]\nmounts.mount=/\\377\\000\\9\\\nend\n";
	json_t *json = parse(text, sizeof(text) - 1), *name;

	(void)state;
	name = json_object_get(json, "hostname");
	assert_int_equal(json_string_length(name), 14);
	assert_memory_equal(json_string_value(name), "a\xef\xbf\xbd\"\\\x01\x1b[31m\0z", 14);
	field(json, "fqdn", "\"\xc3\xa4\"");
	field(json, "mounts", "[{\"mount\":\"/\xef\xbf\xbd\\u0000\\\\9\\\\\"}]");
	json_decref(json);
}

static void what_is_not_a_fact_is_refused(void **state)
{
	static const char *const lines[] = {
		"secret=1", "hostname", "=", "", "[]", "mounts", "mounts=1", "mounts.size=1", "os=1",
		"os[]", "os.=1", "os.id[]", "os.id.more=1", ".os.id=1", "hostname.more=1",
		"hostname[]", "memory=-1", "memory=1.5", "memory=", "memory=0x10", "memory=1 ",
		"memory=9999999999999999", "is_virtual=yes", "default_ipv4.gateway=10.0.0.256",
		"default_ipv4.gateway=", "default_ipv4.gateway=a.example.net", "address=lo",
		"address=lo inet 127.0.0.1 host", "address=lo inet 127.0.0.1/33 host",
		"address=lo inet 127.0.0.1/8 nowhere", "address=lo inet ::1/8 host",
		"address=lo inet6 1.2.3.4/8 host", "address=lo inet6 ::1/129 host",
		"address=lo ipx 1/8 host", "interfaces.ipv4[]", "exed-facts 1", "{\"a\":1}",
		"a line that is far too long to be shown as a whole, since "
		"nobody needs more than its beginning to see what it is",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
		refuses_line(lines[i]);
	refuses_line("\xff\x01=");
}

static void what_has_no_beginning_or_no_end_is_refused(void **state)
{
	(void)state;
	refuses("", 0, "it printed no facts");
	refuses(NULL, 0, "it printed no facts");
	refuses("sh: not found\n", 14, "it printed no facts");
	refuses(" exed-facts 1\nend\n", 18, "it printed no facts");
	refuses("exed-facts 1\nhostname=a\n", 24, "no end");
	refuses("exed-facts 1\nhostname=a\nen", 26, "line 2");
}

static void no_list_grows_without_end(void **state)
{
	struct buf b = { 0 };

	(void)state;
	buf_puts(&b, "exed-facts 1\n");
	for (size_t i = 0; i < 1001; i++)
		buf_puts(&b, "mounts[]\n");
	buf_puts(&b, "end\n");
	refuses(b.data, b.len, "line 1001");
	buf_deinit(&b);
}

static void escaped_bytes_do_not_make_it_grow_without_end(void **state)
{
	struct buf b = { 0 };

	(void)state;
	buf_puts(&b, "exed-facts 1\nhostname=");
	for (size_t i = 0; i < FACTS_MAX / 2; i++)
		buf_putc(&b, 1);
	buf_puts(&b, "\nend\n");
	refuses(b.data, b.len, "longer than");
	buf_deinit(&b);
}

/* Every beginning of good facts, and each of them with one byte changed, is parsed or refused. */
static void nothing_that_is_cut_or_changed_does_harm(void **state)
{
	char text[sizeof(alpine)];
	struct buf b = { 0 };
	struct err err;

	(void)state;
	for (size_t n = 0; n < sizeof(alpine); n++) {
		char *cut = malloc(n + 1);

		memcpy(cut, alpine, n);
		buf_clear(&b);
		facts_parse(cut, n, &b, &err);
		free(cut);
		memcpy(text, alpine, sizeof(text));
		text[n] = (char)(n * 37 + 11);
		buf_clear(&b);
		if (!facts_parse(text, sizeof(text) - 1, &b, &err)) {
			json_t *json = json_loadb(b.data, b.len, JSON_ALLOW_NUL, NULL);

			assert_non_null(json);
			json_decref(json);
		}
	}
	buf_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_fact_has_its_name_and_type),
		cmocka_unit_test(lists_have_their_items_in_order),
		cmocka_unit_test(a_host_without_disks_and_networks_has_empty_lists),
		cmocka_unit_test(a_name_that_comes_twice_is_there_once),
		cmocka_unit_test(text_is_made_utf8_and_escaped),
		cmocka_unit_test(what_is_not_a_fact_is_refused),
		cmocka_unit_test(what_has_no_beginning_or_no_end_is_refused),
		cmocka_unit_test(no_list_grows_without_end),
		cmocka_unit_test(escaped_bytes_do_not_make_it_grow_without_end),
		cmocka_unit_test(nothing_that_is_cut_or_changed_does_harm),
	};

	return cmocka_run_group_tests_name("facts", tests, NULL, NULL);
}
