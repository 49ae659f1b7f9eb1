/* SPDX-License-Identifier: MIT */
/* Tests of runtime/json.c. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <lauxlib.h>
#include <lualib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"

static lua_State *L;
static size_t limit, used; /* bytes that Lua may have; 0: no limit */

static void *counted(void *ud, void *ptr, size_t osize, size_t nsize)
{
	size_t old = ptr ? osize : 0; /* without a block, osize is a kind of object */

	(void)ud;
	if (!nsize) {
		used -= old;
		free(ptr);
		return NULL;
	}
	if (limit && used + nsize - old > limit)
		return NULL;
	used += nsize - old;
	return realloc(ptr, nsize);
}

static int open_state(void **state)
{
	(void)state;
	L = luaL_newstate();
	luaL_openlibs(L);
	return 0;
}

static int close_state(void **state)
{
	(void)state;
	assert_int_equal(lua_gettop(L), 0);
	lua_close(L);
	return 0;
}

static void push(const char *lua)
{
	char text[512];

	snprintf(text, sizeof(text), "return %s", lua);
	if (luaL_dostring(L, text))
		fail_msg("%s", lua_tostring(L, -1));
}

/* The value of the Lua text is written as `want`. */
static void writes(const char *lua, const char *want)
{
	struct buf b = { 0 };
	struct err err = { 0 };

	push(lua);
	if (json_encode(L, -1, &b, &err))
		fail_msg("%s: %s", lua, err.message);
	assert_string_equal(buf_str(&b), want);
	buf_deinit(&b);
	lua_pop(L, 1);
}

static void will_not_write(const char *lua, const char *why)
{
	struct buf b = { 0 };
	struct err err = { 0 };

	push(lua);
	assert_int_equal(json_encode(L, -1, &b, &err), -ERR_INVALID);
	assert_string_equal(err.message, why);
	buf_deinit(&b);
	lua_pop(L, 1);
}

/* The text is read, and written again as `want`. */
static void keeps(const char *text, const char *want)
{
	struct buf b = { 0 };
	struct err err = { 0 };

	if (json_decode(L, text, strlen(text), &err))
		fail_msg("%s: %s", text, err.message);
	assert_int_equal(json_encode(L, -1, &b, &err), 0);
	assert_string_equal(buf_str(&b), want);
	buf_deinit(&b);
	lua_pop(L, 1);
}

static void refuses_bytes(const char *text, size_t n, const char *why)
{
	struct err err = { 0 };
	int top = lua_gettop(L);

	assert_int_equal(json_decode(L, text, n, &err), -ERR_INVALID);
	assert_int_equal(lua_gettop(L), top);
	if (strncmp(err.message, why, strlen(why)) != 0)
		fail_msg("%s: \"%s\" and not \"%s\"", text, err.message, why);
}

static void refuses(const char *text, const char *why)
{
	refuses_bytes(text, strlen(text), why);
}

static void values_come_back_the_same(void **state)
{
	(void)state;
	keeps("[]", "[]");
	keeps("{}", "{}");
	keeps(" { \"a\" : [ ] , \"b\" : { } } ", "{\"a\":[],\"b\":{}}");
	keeps("null", "null");
	keeps("[null,null]", "[null,null]");
	keeps("true", "true");
	keeps("false", "false");
	keeps("\"x\"", "\"x\"");
	keeps("9223372036854775807", "9223372036854775807");
	keeps("-9223372036854775808", "-9223372036854775808");
	keeps("9007199254740993", "9007199254740993");
	keeps("0", "0");
	keeps("1.0", "1.0");
	keeps("-0.0", "-0.0");
	keeps("0.1", "0.1");
	keeps("1e3", "1000.0");
	keeps("1e300", "1e+300");
	keeps("5e-324", "4.94065645841247e-324");
	keeps("1.7976931348623157e308", "1.7976931348623157e+308");
	keeps("0.30000000000000004", "0.30000000000000004");
	keeps("\"\\u0000\\u001f\\n\\\"\\\\\\/\"", "\"\\u0000\\u001f\\n\\\"\\\\/\"");
	keeps("\"\\u00e4\\ud83d\\ude00\"", "\"\xc3\xa4\xf0\x9f\x98\x80\"");
	keeps("{\"z\":1,\"a\":{\"y\":[1,[2,[]]],\"b\":2},\"\":3,\"aa\":0}",
	      "{\"\":3,\"a\":{\"b\":2,\"y\":[1,[2,[]]]},\"aa\":0,\"z\":1}");
	keeps("{\"1\":\"a\",\"2\":\"b\"}", "{\"1\":\"a\",\"2\":\"b\"}");
}

static void types_are_lua_types(void **state)
{
	(void)state;
	assert_int_equal(json_decode(L, "[1,1.0,null]", 12, NULL), 0);
	assert_int_equal(lua_rawgeti(L, 1, 1), LUA_TNUMBER);
	assert_true(lua_isinteger(L, -1));
	lua_rawgeti(L, 1, 2);
	assert_false(lua_isinteger(L, -1));
	lua_rawgeti(L, 1, 3);
	assert_true(json_null_at(L, -1));
	json_push_null(L);
	assert_true(lua_rawequal(L, -1, -2));
	assert_string_equal(luaL_tolstring(L, -1, NULL), "null");
	lua_settop(L, 0);
}

static void malformed_text_is_refused_with_its_place(void **state)
{
	(void)state;
	refuses("", "it ends too early at line 1 column 0 (byte 0)");
	refuses("{\"a\":1", "it ends too early at line 1 column 6 (byte 6), in 'a'");
	refuses("{\n \"a\": x}", "invalid token at line 2 column 7 (byte 9), in 'a'");
	refuses("{\"a\":1,\"a\":2}",
		"a name twice in one object at line 1 column 10 (byte 10), in 'a'");
	refuses("[1,]", "unexpected token at line 1 column 4 (byte 4)");
	refuses("[1 2]", "']' expected at line 1");
	refuses("{a:1}", "string or '}' expected at line 1");
	refuses("1 2", "something behind the end at line 1");
	refuses("[1] x", "something behind the end at line 1");
	refuses("\xef\xbb\xbf{}", "a byte order mark at line 1 column 1 (byte 0)");
	refuses("NaN", "invalid token");
	refuses("-Infinity", "invalid token");
	refuses("0x10", "something behind the end");
	refuses("01", "invalid token");
	refuses("+1", "invalid token");
	refuses("1.", "invalid token");
	refuses("tru", "invalid token");
	refuses("True", "invalid token");
	refuses("'a'", "invalid token");
	refuses("[1] // x", "something behind the end");
	refuses("1e999", "a number beyond a double");
	refuses("-1e999", "a number beyond a double");
	refuses("9223372036854775808", "an integer beyond 64 bits");
	refuses("-9223372036854775809", "an integer beyond 64 bits");
	refuses("\"\\ud800\"", "invalid Unicode");
	refuses("\"\\ud800\\u0041\"", "invalid Unicode");
	refuses("\"\\udc00\"", "invalid Unicode");
	refuses("\"a\tb\"", "control character 0x9");
	refuses("\"a\nb\"", "unexpected newline");
	refuses("\"\xff\"", "bytes that are not UTF-8");
	refuses("\"\xc0\x80\"", "bytes that are not UTF-8");
	refuses("\"\xed\xa0\x80\"", "bytes that are not UTF-8");
	refuses("{\"a\\u0000b\":1}", "a NUL in a name");
	refuses_bytes("[1]\0", 4, "something behind the end");
	refuses_bytes("\"a\0b\"", 5, "control character 0x0");
}

static void expect_place(const char *text, size_t at, const char *want)
{
	char got[24];

	json_scan_place(text, strlen(text), at, got, sizeof(got));
	assert_string_equal(got, want);
}

static void a_place_is_named(void **state)
{
	static const char text[] = "{\"a\": [1, {\"b\\\"]\": [[], [2]]}], \"c\\n\": {}}";

	(void)state;
	expect_place(text, 0, "");
	expect_place(text, 3, ""); /* inside a name */
	expect_place(text, 4, "a");
	expect_place(text, 8, "a[0]");
	expect_place(text, 10, "a[1]");
	expect_place(text, 19, "a[1].b\\\"]");
	expect_place(text, 26, "a[1].b\\\"][1][0]");
	expect_place(text, strlen(text) - 3, "c\\n");
	expect_place(text, strlen(text), "");
	expect_place(text, 1000, "");
	expect_place("{\"", 2, "");
	expect_place("{\"\"", 3, "");
	expect_place("]]}}[", 5, "[0]");
	expect_place("{\"a\x1b\":1", 7, "a?");
	expect_place("{\"0123456789012345678901234567890\":1", 35, "01234567890123456789...");
	expect_place("{\"0123456789012345678\xc3\xa4xxxxx\":1", 30, "0123456789012345678...");
}

static void depth_is_bounded(void **state)
{
	char text[200] = { 0 };
	struct err err;

	(void)state;
	memset(text, '[', 64);
	memset(text + 64, ']', 64);
	keeps(text, text);
	memset(text, '[', 65);
	memset(text + 65, ']', 65);
	refuses(text, "nested deeper than 64 levels at line 1 column 65 (byte 64)");
	/* Brackets in strings do not count. */
	memset(text, '[', 130);
	text[0] = text[129] = '"';
	text[1] = '\\';
	text[2] = '"';
	text[130] = '\0';
	assert_int_equal(json_decode(L, text, 130, &err), 0);
	lua_pop(L, 1);
}

static void tables_are_told_apart(void **state)
{
	(void)state;
	json_push_array_mt(L);
	lua_setglobal(L, "array");
	writes("{}", "{}");
	writes("setmetatable({}, array)", "[]");
	writes("setmetatable({ 1, 2 }, array)", "[1,2]");
	writes("{ 'a', { 1 }, {} }", "[\"a\",[1],{}]");
	writes("{ b = 1, a = true, c = { x = 'y' } }", "{\"a\":true,\"b\":1,\"c\":{\"x\":\"y\"}}");
	writes("{ a = nil }", "{}");
	writes("{ 1, 2.5, -3, 1 << 62, 2^53, math.mininteger }",
	       "[1,2.5,-3,4611686018427387904,9007199254740992.0,-9223372036854775808]");
	writes("'a\\0\\xff\\xc3\\xa4'", "\"a\\u0000\xef\xbf\xbd\xc3\xa4\"");
	writes("nil", "null");
}

static void finished_text_goes_in_as_it_is(void **state)
{
	struct buf b = { 0 };

	(void)state;
	lua_newtable(L);
	json_push_raw(L, "{\"x\": [1,  2]}", 14);
	lua_setfield(L, -2, "record");
	assert_int_equal(json_encode(L, -1, &b, NULL), 0);
	assert_string_equal(buf_str(&b), "{\"record\":{\"x\": [1,  2]}}");
	buf_deinit(&b);
	lua_pop(L, 1);
}

static void what_has_no_form_is_refused_with_its_place(void **state)
{
	(void)state;
	will_not_write("0/0", "cannot write as JSON: NaN and infinities have no form");
	will_not_write("{ a = { 1, { b = 1/0 } } }",
		       "cannot write as JSON: NaN and infinities have no form, at .a[2].b");
	will_not_write("{ 1, x = 2 }",
		       "cannot write as JSON: a table with numbers that are not 1 to "
		       "n, or with numbers and names");
	will_not_write("{ [3] = 2 }",
		       "cannot write as JSON: a table with numbers that are not 1 to n, "
		       "or with numbers and names");
	will_not_write("{ [1.5] = 2 }", "cannot write as JSON: a name that is no string");
	will_not_write("{ [true] = 2 }", "cannot write as JSON: a name that is no string");
	will_not_write("{ f = print }", "cannot write as JSON: a function has no form, at .f");
	will_not_write("{ io.stdout }", "cannot write as JSON: a userdata has no form, at [1]");
	will_not_write("coroutine.create(print)",
		       "cannot write as JSON: a thread or pointer has no form");
}

static void a_table_inside_itself_is_refused(void **state)
{
	struct buf b = { 0 };
	struct err err;

	(void)state;
	push("(function() local t = {} t.t = t return t end)()");
	assert_int_equal(json_encode(L, -1, &b, &err), -ERR_INVALID);
	assert_non_null(strstr(err.message, "nested deeper than 64 levels"));
	buf_deinit(&b);
	lua_pop(L, 1);
}

static void metamethods_are_not_called(void **state)
{
	(void)state;
	writes("setmetatable({ a = 1 }, { __index = error, __pairs = error, __len = error })",
	       "{\"a\":1}");
}

static void text_is_appended(void **state)
{
	struct buf b = { 0 };

	(void)state;
	buf_puts(&b, "x");
	push("{ 1 }");
	assert_int_equal(json_encode(L, 1, &b, NULL), 0);
	assert_string_equal(buf_str(&b), "x[1]");
	assert_int_equal(lua_gettop(L), 1);
	lua_pop(L, 1);
	buf_deinit(&b);
}

/* With every amount of memory it works or says so, and loses nothing (the leak checker looks). */
static void lack_of_memory_is_told(void **state)
{
	static const char text[] = "{\"a\":[1,2,{\"b\":\"a text that is long enough to be a long "
				   "string in Lua, too\"}],\"c\":[[],[],{}]}";
	lua_State *own, *saved = L;
	bool worked = false;
	int failed = 0;

	(void)state;
	for (size_t room = 0; room < 8192 && !worked; room += 64) {
		struct buf b = { 0 };
		struct err err = { 0 };

		used = limit = 0;
		own = lua_newstate(counted, NULL);
		assert_non_null(own);
		json_push_null(own);
		json_push_array_mt(own);
		lua_settop(own, 0);
		lua_gc(own, LUA_GCSTOP);
		lua_checkstack(own, 1000);
		limit = used + room;
		if (json_decode(own, text, sizeof(text) - 1, &err)) {
			failed++;
			assert_int_equal(err.code, ERR_MEMORY);
			assert_int_equal(lua_gettop(own), 0);
		} else {
			worked = json_encode(own, -1, &b, &err) == 0;
			assert_true(worked || err.code == ERR_MEMORY);
		}
		buf_deinit(&b);
		limit = 0;
		lua_close(own);
	}
	assert_true(worked && failed > 3);
	L = saved;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_come_back_the_same),
		cmocka_unit_test(types_are_lua_types),
		cmocka_unit_test(malformed_text_is_refused_with_its_place),
		cmocka_unit_test(a_place_is_named),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(tables_are_told_apart),
		cmocka_unit_test(finished_text_goes_in_as_it_is),
		cmocka_unit_test(what_has_no_form_is_refused_with_its_place),
		cmocka_unit_test(a_table_inside_itself_is_refused),
		cmocka_unit_test(metamethods_are_not_called),
		cmocka_unit_test(text_is_appended),
		cmocka_unit_test(lack_of_memory_is_told),
	};

	return cmocka_run_group_tests(tests, open_state, close_state);
}
