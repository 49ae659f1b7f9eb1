/* SPDX-License-Identifier: MIT */
/* json: reads with jansson, then builds Lua values; writes straight from Lua values. What Lua may
 * raise on the way (memory) is caught in a protected call, so that nothing held in C is lost. */
#include "json.h"

#include <lauxlib.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARRAY "json.array"
#define NULL_NAME "json.null"
#define RAW "json.raw"

#define MIXED "a table with numbers that are not 1 to n, or with numbers and names"

/* ---- marks ---- */

static int null_tostring(lua_State *L)
{
	lua_pushliteral(L, "null");
	return 1;
}

void json_push_null(lua_State *L)
{
	static const char key;

	if (lua_rawgetp(L, LUA_REGISTRYINDEX, &key) != LUA_TNIL)
		return;
	lua_pop(L, 1);
	lua_newuserdatauv(L, 0, 0);
	if (luaL_newmetatable(L, NULL_NAME)) {
		lua_pushcfunction(L, null_tostring);
		lua_setfield(L, -2, "__tostring");
	}
	lua_setmetatable(L, -2);
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
}

bool json_null_at(lua_State *L, int idx)
{
	return luaL_testudata(L, idx, NULL_NAME) != NULL;
}

void json_push_array_mt(lua_State *L)
{
	luaL_newmetatable(L, ARRAY);
}

void json_push_raw(lua_State *L, const char *text, size_t n)
{
	lua_newuserdatauv(L, 0, 1);
	lua_pushlstring(L, text, n);
	lua_setiuservalue(L, -2, 1);
	luaL_newmetatable(L, RAW);
	lua_setmetatable(L, -2);
}

/* ---- reading ---- */

/* Set when jansson was refused memory on this thread. */
static _Thread_local bool refused;

static void *allocate(size_t n)
{
	void *block = malloc(n);

	refused = refused || !block;
	return block;
}

void json_watch_memory(void)
{
	json_set_alloc_funcs(allocate, free);
}

/* What jansson says, in words for the one who sent it. Its `near '...'` repeats what was sent. */
static const char *what_failed(const json_error_t *e, char *out, size_t cap)
{
	const char *near = strstr(e->text, " near ");
	int n = near ? (int)(near - e->text) : (int)strlen(e->text);

	switch (json_error_code(e)) {
	case json_error_invalid_utf8: return "bytes that are not UTF-8";
	case json_error_premature_end_of_input: return "it ends too early";
	case json_error_end_of_input_expected: return "something behind the end";
	case json_error_null_byte_in_key: return "a NUL in a name";
	case json_error_duplicate_key: return "a name twice in one object";
	case json_error_numeric_overflow:
		return strstr(e->text, "real") ? "a number beyond a double"
					       : "an integer beyond 64 bits";
	default: snprintf(out, cap, "%.*s", n, e->text); return out;
	}
}

json_t *json_read_bounded(const char *text, size_t n, size_t max_values, struct err *err)
{
	json_error_t e;
	char what[JSON_ERROR_TEXT_LENGTH], place[80];
	json_t *v;

	/* jansson's own bound is deeper than a Lua C stack is safe for. */
	if (json_scan_check(text, n, max_values, err))
		return NULL;
	refused = false;
	v = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
	if (v)
		return v;
	if (refused || json_error_code(&e) == json_error_out_of_memory) {
		err_set(err, ERR_MEMORY, "no memory to read JSON");
		return NULL;
	}
	json_scan_place(text, n, e.position < 0 ? 0 : (size_t)e.position, place, sizeof(place));
	err_set(err, ERR_INVALID, "%.100s at line %d column %d (byte %d)%s%s%s",
		what_failed(&e, what, sizeof(what)), e.line, e.column, e.position,
		*place ? ", in '" : "", place, *place ? "'" : "");
	return NULL;
}

json_t *json_read(const char *text, size_t n, struct err *err)
{
	return json_read_bounded(text, n, 0, err);
}

static void push_object(lua_State *L, const json_t *v)
{
	json_t *object = (json_t *)v; /* iterating changes nothing */
	void *it = json_object_iter(object);

	lua_createtable(L, 0, (int)json_object_size(v));
	for (; it; it = json_object_iter_next(object, it)) {
		lua_pushlstring(L, json_object_iter_key(it), json_object_iter_key_len(it));
		json_push(L, json_object_iter_value(it));
		lua_rawset(L, -3);
	}
}

void json_push(lua_State *L, const json_t *v)
{
	luaL_checkstack(L, 4, "JSON");
	switch (json_typeof(v)) {
	case JSON_OBJECT: push_object(L, v); return;
	case JSON_ARRAY:
		lua_createtable(L, (int)json_array_size(v), 0);
		for (size_t i = 0; i < json_array_size(v); i++) {
			json_push(L, json_array_get(v, i));
			lua_rawseti(L, -2, (lua_Integer)i + 1);
		}
		json_push_array_mt(L);
		lua_setmetatable(L, -2);
		return;
	case JSON_STRING: lua_pushlstring(L, json_string_value(v), json_string_length(v)); return;
	case JSON_INTEGER: lua_pushinteger(L, json_integer_value(v)); return;
	case JSON_REAL: lua_pushnumber(L, json_real_value(v)); return;
	case JSON_NULL: json_push_null(L); return;
	default: lua_pushboolean(L, json_is_true(v)); return;
	}
}

static int push_protected(lua_State *L)
{
	const json_t *v = lua_touserdata(L, 1);

	lua_settop(L, 0);
	json_push(L, v);
	return 1;
}

int json_decode_bounded(lua_State *L, const char *text, size_t n, size_t max_values,
			struct err *err)
{
	json_t *v = json_read_bounded(text, n, max_values, err);
	int status;

	if (!v)
		return err ? -err->code : -ERR_INVALID;
	lua_pushcfunction(L, push_protected);
	lua_pushlightuserdata(L, v);
	status = lua_pcall(L, 1, 1, 0);
	json_decref(v);
	if (status == LUA_OK)
		return 0;
	lua_pop(L, 1);
	return err_set(err, ERR_MEMORY, "no memory to read JSON");
}

int json_decode(lua_State *L, const char *text, size_t n, struct err *err)
{
	return json_decode_bounded(L, text, n, 0, err);
}

/* ---- writing ---- */

struct name {
	const char *text;
	size_t n;
};

struct writer {
	struct buf *b;
	struct err *err;
	struct name *names; /* a stack: each object that is open has its names on it */
	size_t count, cap;
	/* Where we are, for messages: a name, or an index when it has none. */
	struct {
		const char *name;
		lua_Integer index;
	} path[JSON_DEPTH + 1];
	int depth;
	int rc;
};

static void write_value(struct writer *w, lua_State *L);

static void place(const struct writer *w, struct buf *out)
{
	for (int i = 0; i < w->depth; i++) {
		if (w->path[i].name)
			buf_printf(out, ".%.40s", w->path[i].name);
		else
			buf_printf(out, "[%lld]", (long long)w->path[i].index);
	}
}

static void fail(struct writer *w, const char *what)
{
	struct buf at = { 0 };

	place(w, &at);
	w->rc = err_set(w->err, ERR_INVALID, "cannot write as JSON: %s%s%.120s", what,
			at.len ? ", at " : "", at.len ? buf_str(&at) : "");
	buf_deinit(&at);
}

/* The shortest form that reads back the same, and never like an integer. */
static void write_float(struct writer *w, lua_Number v)
{
	char text[40];
	char *comma;

	if (!isfinite(v)) {
		fail(w, "NaN and infinities have no form");
		return;
	}
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, v);
		if (strtod(text, NULL) == v)
			break;
	}
	comma = strchr(text, ','); /* a locale's decimal point */
	if (comma)
		*comma = '.';
	if (!strpbrk(text, ".e"))
		strcat(text, ".0");
	buf_puts(w->b, text);
}

/* The array at the top of the stack, of n items. */
static void write_array(struct writer *w, lua_State *L, lua_Integer n)
{
	int at = w->depth++;

	buf_putc(w->b, '[');
	w->path[at].name = NULL;
	for (lua_Integer i = 1; i <= n && !w->rc; i++) {
		if (i > 1)
			buf_putc(w->b, ',');
		w->path[at].index = i;
		lua_rawgeti(L, -1, i);
		write_value(w, L);
		lua_pop(L, 1);
	}
	buf_putc(w->b, ']');
	w->depth--;
}

static int compare_names(const void *a, const void *b)
{
	const struct name *x = a, *y = b;
	int c = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);

	return c ? c : (x->n > y->n) - (x->n < y->n);
}

static int add_name(struct writer *w, const char *text, size_t n)
{
	if (w->count == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 64;
		struct name *names = realloc(w->names, cap * sizeof(*names));

		if (!names)
			return w->rc = err_set(w->err, ERR_MEMORY, "no memory to write JSON");
		w->names = names;
		w->cap = cap;
	}
	w->names[w->count].text = text;
	w->names[w->count++].n = n;
	return 0;
}

/* The names of the table on top. It keeps its strings where they are: nothing changes it
 * meanwhile. */
static void collect_names(struct writer *w, lua_State *L)
{
	lua_pushnil(L);
	while (lua_next(L, -2)) {
		size_t n;
		const char *text;

		lua_pop(L, 1);
		if (lua_type(L, -1) != LUA_TSTRING) {
			fail(w, lua_isinteger(L, -1) ? MIXED : "a name that is no string");
			lua_pop(L, 1);
			return;
		}
		text = lua_tolstring(L, -1, &n);
		if (add_name(w, text, n)) {
			lua_pop(L, 1);
			return;
		}
	}
}

static void write_object(struct writer *w, lua_State *L)
{
	size_t first = w->count, last;
	int at;

	collect_names(w, L);
	last = w->count;
	at = w->depth++;
	if (last - first > 1)
		qsort(w->names + first, last - first, sizeof(*w->names), compare_names);
	buf_putc(w->b, '{');
	for (size_t i = first; i < last && !w->rc; i++) {
		struct name name = w->names[i];

		if (i > first)
			buf_putc(w->b, ',');
		buf_json_string(w->b, name.text, name.n);
		buf_putc(w->b, ':');
		w->path[at].name = name.text;
		lua_pushlstring(L, name.text, name.n);
		lua_rawget(L, -2);
		write_value(w, L);
		lua_pop(L, 1);
	}
	buf_putc(w->b, '}');
	w->depth--;
	w->count = first;
}

static bool has_metatable(lua_State *L, const char *name)
{
	bool same;

	if (!lua_getmetatable(L, -1))
		return false;
	luaL_getmetatable(L, name);
	same = lua_rawequal(L, -1, -2);
	lua_pop(L, 2);
	return same;
}

/* Whether 1 to n is all that the table on top has; n in *n. */
static bool is_sequence(lua_State *L, lua_Integer *n)
{
	lua_Integer count = 0;

	lua_pushnil(L);
	while (lua_next(L, -2)) {
		lua_pop(L, 1);
		if (!lua_isinteger(L, -1)) {
			lua_pop(L, 1);
			return false;
		}
		count++;
	}
	*n = (lua_Integer)lua_rawlen(L, -1);
	return count > 0 && count == *n;
}

static void write_table(struct writer *w, lua_State *L)
{
	lua_Integer n;

	if (w->depth == JSON_DEPTH) {
		fail(w, "nested deeper than 64 levels, or a table inside itself");
		return;
	}
	luaL_checkstack(L, 8, "JSON");
	if (has_metatable(L, ARRAY))
		write_array(w, L, (lua_Integer)lua_rawlen(L, -1));
	else if (is_sequence(L, &n))
		write_array(w, L, n);
	else
		write_object(w, L);
}

static void write_userdata(struct writer *w, lua_State *L)
{
	const char *text;
	size_t n;

	if (has_metatable(L, NULL_NAME)) {
		buf_add(w->b, "null", 4);
	} else if (has_metatable(L, RAW)) {
		lua_getiuservalue(L, -1, 1);
		text = lua_tolstring(L, -1, &n);
		buf_add(w->b, text, n);
		lua_pop(L, 1);
	} else {
		fail(w, "a userdata has no form");
	}
}

/* The value on top of the stack, which stays there. */
static void write_value(struct writer *w, lua_State *L)
{
	const char *text;
	size_t n;

	switch (lua_type(L, -1)) {
	case LUA_TNIL: buf_add(w->b, "null", 4); return;
	case LUA_TBOOLEAN: buf_puts(w->b, lua_toboolean(L, -1) ? "true" : "false"); return;
	case LUA_TSTRING:
		text = lua_tolstring(L, -1, &n);
		buf_json_string(w->b, text, n);
		return;
	case LUA_TNUMBER:
		if (lua_isinteger(L, -1))
			buf_integer(w->b, lua_tointeger(L, -1));
		else
			write_float(w, lua_tonumber(L, -1));
		return;
	case LUA_TTABLE: write_table(w, L); return;
	case LUA_TUSERDATA: write_userdata(w, L); return;
	case LUA_TFUNCTION: fail(w, "a function has no form"); return;
	default: fail(w, "a thread or pointer has no form");
	}
}

static int write_protected(lua_State *L)
{
	struct writer *w = lua_touserdata(L, 2);

	lua_settop(L, 1);
	write_value(w, L);
	return 0;
}

int json_encode(lua_State *L, int idx, struct buf *b, struct err *err)
{
	struct writer w = { .b = b, .err = err };
	int status;

	idx = lua_absindex(L, idx);
	lua_pushcfunction(L, write_protected);
	lua_pushvalue(L, idx);
	lua_pushlightuserdata(L, &w);
	status = lua_pcall(L, 2, 0, 0);
	free(w.names);
	if (status != LUA_OK)
		lua_pop(L, 1);
	if (status != LUA_OK || (b->failed && !w.rc))
		return err_set(err, ERR_MEMORY, "no memory to write JSON");
	return w.rc;
}
