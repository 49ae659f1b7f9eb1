/* SPDX-License-Identifier: MIT */
/* record_fields: read strictly, looked over, and written anew, on one line and without blanks. */
#include "record_fields.h"

#include <jansson.h>
#include <string.h>

#include "json.h"

const char *const record_own_names[] = {
	"attempts", "cancelled", "checksum", "content", "disabled", "dry_run", "error", "facts", "failed",
	"fetch", "host", "i", "killed", "killed_by", "lines", "lines_b64", "name", "offset", "ok",
	"output_open", "return_data", "rtc", "seconds", "signal", "started", "state", "status", "stderr",
	"stderr_b64", "stderr_bytes", "stdout", "stdout_b64", "stdout_bytes", "step", "stream", "survivors",
	"survivors_unknown", "timed_out", "truncated", "unknown", NULL,
};

static bool is_own(const char *name)
{
	for (const char *const *own = record_own_names; *own; own++)
		if (!strcmp(*own, name))
			return true;
	return false;
}

static int add(const char *data, size_t n, void *arg)
{
	buf_add(arg, data, n);
	return 0;
}

static int check(json_t *object, struct err *err)
{
	const char *name;
	json_t *value;

	if (!json_is_object(object))
		return err_set(err, ERR_INVALID, "it is no JSON object");
	json_object_foreach(object, name, value)
		if (is_own(name))
			return err_set(err, ERR_INVALID, "the field \"%s\" is exed's own", name);
	return 0;
}

static int write_fields(struct buf *out, json_t *object, struct err *err)
{
	const char *name;
	json_t *value;

	json_object_foreach(object, name, value) {
		buf_putc(out, ',');
		buf_json_string(out, name, strlen(name));
		buf_putc(out, ':');
		if (json_dump_callback(value, add, out, JSON_COMPACT | JSON_ENCODE_ANY))
			out->failed = true;
	}
	return out->failed ? err_set(err, ERR_MEMORY, "out of memory") : 0;
}

int record_fields(struct buf *out, const char *text, size_t n, struct err *err)
{
	json_t *object = json_read_bounded(text, n, RECORD_FIELDS_VALUES, err);
	int rc;

	if (!object)
		return -err->code;
	rc = check(object, err);
	if (!rc)
		rc = write_fields(out, object, err);
	json_decref(object);
	return rc;
}
