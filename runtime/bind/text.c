/* SPDX-License-Identifier: MIT */
/* exed.text: forms of bytes that Lua would make slowly.
 *   json(bytes) -> text, whole    the inside of a JSON string; whole: all of it was UTF-8
 *   base64(bytes) -> text         with padding
 *   sha256(bytes) -> text         64 hex digits */
#include <lauxlib.h>
#include <openssl/evp.h>

#include "bind.h"
#include "buf.h"

/* Copies the bytes at 1 into a Lua string; may raise for memory. */
static int push_bytes(lua_State *L)
{
	const struct buf *b = lua_touserdata(L, 1);

	lua_pushlstring(L, b->data ? b->data : "", b->len);
	return 1;
}

/* Pushes what is in b as a string and frees b, whatever happens. */
static void push_buf(lua_State *L, struct buf *b)
{
	int status = LUA_ERRMEM;

	if (!b->failed) {
		lua_pushcfunction(L, push_bytes);
		lua_pushlightuserdata(L, b);
		status = lua_pcall(L, 1, 1, 0);
	} else {
		lua_pushliteral(L, "not enough memory");
	}
	buf_deinit(b);
	if (status != LUA_OK)
		lua_error(L);
}

static int l_json(lua_State *L)
{
	size_t n;
	const char *bytes = luaL_checklstring(L, 1, &n);
	struct buf b = { 0 };
	bool whole = buf_json_text(&b, bytes, n);

	push_buf(L, &b);
	lua_pushboolean(L, whole);
	return 2;
}

static int l_base64(lua_State *L)
{
	size_t n;
	const char *bytes = luaL_checklstring(L, 1, &n);
	struct buf b = { 0 };

	buf_base64(&b, bytes, n);
	push_buf(L, &b);
	return 1;
}

static int l_sha256(lua_State *L)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char sum[EVP_MAX_MD_SIZE];
	char text[2 * EVP_MAX_MD_SIZE];
	unsigned size = 0;
	size_t n;
	const char *bytes = luaL_checklstring(L, 1, &n);

	if (!EVP_Digest(bytes, n, sum, &size, EVP_sha256(), NULL))
		return luaL_error(L, "SHA-256 is not to be had");
	for (unsigned i = 0; i < size; i++) {
		text[2 * i] = digits[sum[i] >> 4];
		text[2 * i + 1] = digits[sum[i] & 15];
	}
	lua_pushlstring(L, text, 2 * (size_t)size);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "json", l_json },
	{ "base64", l_base64 },
	{ "sha256", l_sha256 },
	{ NULL, NULL },
};

int luaopen_exed_text(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
