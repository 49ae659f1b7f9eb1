/* SPDX-License-Identifier: MIT */
/* fields: what a table from Lua says, field by field, for bindings that take many. t is the table's index, not a
 * negative one. What will not do raises and names the field. Loop thread. */
#ifndef EXED_BIND_FIELDS_H
#define EXED_BIND_FIELDS_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

/* The text on top, borrowed from it; NULL when it is none. One with a NUL raises: it would be cut there. */
const char *bind_field_whole(lua_State *L, const char *name);
/* The same of a field, NULL when it is nil. It is left on the stack, and so alive until the caller returns. */
const char *bind_field_text(lua_State *L, int t, const char *name);
int64_t bind_field_integer(lua_State *L, int t, const char *name, int64_t otherwise); /* nil: otherwise */
bool bind_field_flag(lua_State *L, int t, const char *name);
/* Seconds in Lua, milliseconds here; nil: otherwise, which is in ms. */
int64_t bind_field_ms(lua_State *L, int t, const char *name, int64_t otherwise);

#endif
