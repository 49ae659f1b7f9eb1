/* SPDX-License-Identifier: MIT */
/* exed.text: forms of bytes that Lua would make slowly.
 *   json(bytes) -> text, whole    the inside of a JSON string; whole: all of it was UTF-8
 *   base64(bytes) -> text         with padding
 *   unbase64(text) -> bytes, or nil when it is no base64
 *   escape(bytes) -> text         for a terminal: control characters as \xNN
 *   quote{ word, ... } -> text    words for a POSIX sh, quoted where they need it
 *   sha256(bytes) -> text         64 hex digits
 *   seal(key, context, bytes) -> bytes     encrypted; key: text that is hard to guess, of any length
 *   unseal(key, context, bytes) -> bytes, or nil: it was sealed with another key or context */
#include <lauxlib.h>
#include <limits.h>
#include <openssl/evp.h>
#include <string.h>

#include "bind.h"
#include "buf.h"
#include "seal.h"
#include "ssh_quote.h"

static int l_json(lua_State *L)
{
	size_t n;
	const char *bytes = luaL_checklstring(L, 1, &n);
	struct buf b = { 0 };
	bool whole = buf_json_text(&b, bytes, n);

	bind_push_buf(L, &b);
	lua_pushboolean(L, whole);
	return 2;
}

static int l_base64(lua_State *L)
{
	size_t n;
	const char *bytes = luaL_checklstring(L, 1, &n);
	struct buf b = { 0 };

	buf_base64(&b, bytes, n);
	bind_push_buf(L, &b);
	return 1;
}

static int l_unbase64(lua_State *L)
{
	size_t n;
	const char *s = luaL_checklstring(L, 1, &n);
	unsigned char *out;
	luaL_Buffer b;
	int got;

	if (n % 4 || n > INT_MAX)
		return 0;
	out = (unsigned char *)luaL_buffinitsize(L, &b, n / 4 * 3 + 1);
	got = EVP_DecodeBlock(out, (const unsigned char *)s, (int)n);
	if (got < 0) {
		lua_pushnil(L);
		return 1;
	}
	/* It counts the padding as bytes. */
	if (n && s[n - 1] == '=')
		got--;
	if (n && s[n - 2] == '=')
		got--;
	luaL_pushresultsize(&b, (size_t)got);
	return 1;
}

static int l_escape(lua_State *L)
{
	size_t n;
	const char *bytes = luaL_checklstring(L, 1, &n);
	struct buf b = { 0 };

	buf_escape(&b, bytes, n);
	bind_push_buf(L, &b);
	return 1;
}

static int l_quote(lua_State *L)
{
	struct buf b = { 0 };
	lua_Integer n;

	luaL_checktype(L, 1, LUA_TTABLE);
	n = luaL_len(L, 1);
	for (lua_Integer i = 1; i <= n; i++) {
		size_t len;
		const char *word;

		if (lua_rawgeti(L, 1, i) != LUA_TSTRING || strlen(word = lua_tolstring(L, -1, &len)) != len) {
			buf_deinit(&b);
			return luaL_error(L, "word %I: text without NUL is wanted", i);
		}
		if (i > 1)
			buf_putc(&b, ' ');
		ssh_quote_word(&b, word);
		lua_pop(L, 1);
	}
	bind_push_buf(L, &b);
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

/* The key of seal.h is the hash of what is given. */
static void check_key(lua_State *L, unsigned char key[SEAL_KEY])
{
	size_t n;
	const char *text = luaL_checklstring(L, 1, &n);

	if (!EVP_Digest(text, n, key, NULL, EVP_sha256(), NULL))
		luaL_error(L, "SHA-256 is not to be had");
}

static int l_seal(lua_State *L)
{
	unsigned char key[SEAL_KEY];
	struct buf b = { 0 };
	struct err err;
	size_t n;
	const char *context = luaL_checkstring(L, 2), *bytes = luaL_checklstring(L, 3, &n);

	check_key(L, key);
	if (seal_close(&b, key, context, bytes, n, &err)) {
		buf_deinit(&b);
		return luaL_error(L, "%s", err.message);
	}
	bind_push_buf(L, &b);
	return 1;
}

static int l_unseal(lua_State *L)
{
	unsigned char key[SEAL_KEY];
	struct buf b = { 0 };
	struct err err;
	size_t n;
	const char *context = luaL_checkstring(L, 2), *bytes = luaL_checklstring(L, 3, &n);

	check_key(L, key);
	if (seal_open(&b, key, context, bytes, n, &err)) {
		buf_deinit(&b);
		lua_pushnil(L);
		return 1;
	}
	bind_push_buf(L, &b);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "json", l_json },
	{ "base64", l_base64 },
	{ "unbase64", l_unbase64 },
	{ "escape", l_escape },
	{ "quote", l_quote },
	{ "sha256", l_sha256 },
	{ "seal", l_seal },
	{ "unseal", l_unseal },
	{ NULL, NULL },
};

int luaopen_exed_text(lua_State *L)
{
	luaL_newlib(L, functions);
	return 1;
}
