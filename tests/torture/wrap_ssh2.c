/* SPDX-License-Identifier: MIT */
/* wrap_ssh2: libssh2's functions, made to fail. The linker sends the program's calls here (--wrap). */
#include <libssh2.h>
#include <stddef.h>

#include "faults.h"

static void set_error(LIBSSH2_SESSION *session, int error)
{
	libssh2_session_set_last_error(session, error, "torture");
}

/* The session of a channel cannot be asked for, and where a channel's call fails only its code is read. */
#define WRAP_RC(type, name, params, args) \
	type __real_##name params; \
	type __wrap_##name params; \
	type __wrap_##name params \
	{ \
		int error; \
		return fault_due(FAULT_##name, &error) ? error : __real_##name args; \
	}

#define WRAP_SESSION(type, name, failed, params, args) \
	type __real_##name params; \
	type __wrap_##name params; \
	type __wrap_##name params \
	{ \
		int error; \
		if (!fault_due(FAULT_##name, &error)) \
			return __real_##name args; \
		set_error(session, error); \
		return failed; \
	}

LIBSSH2_SESSION *__real_libssh2_session_init_ex(LIBSSH2_ALLOC_FUNC((*a)), LIBSSH2_FREE_FUNC((*f)),
						LIBSSH2_REALLOC_FUNC((*r)), void *abstract);
LIBSSH2_SESSION *__wrap_libssh2_session_init_ex(LIBSSH2_ALLOC_FUNC((*a)), LIBSSH2_FREE_FUNC((*f)),
						LIBSSH2_REALLOC_FUNC((*r)), void *abstract);
LIBSSH2_SESSION *__wrap_libssh2_session_init_ex(LIBSSH2_ALLOC_FUNC((*a)), LIBSSH2_FREE_FUNC((*f)),
						LIBSSH2_REALLOC_FUNC((*r)), void *abstract)
{
	int error;

	return fault_due(FAULT_libssh2_session_init_ex, &error)
		       ? NULL : __real_libssh2_session_init_ex(a, f, r, abstract);
}

WRAP_SESSION(int, libssh2_session_method_pref, error,
	     (LIBSSH2_SESSION *session, int method, const char *prefs), (session, method, prefs))
WRAP_SESSION(int, libssh2_session_handshake, error,
	     (LIBSSH2_SESSION *session, libssh2_socket_t fd), (session, fd))
WRAP_SESSION(const char *, libssh2_session_hostkey, NULL,
	     (LIBSSH2_SESSION *session, size_t *len, int *type), (session, len, type))
WRAP_SESSION(const char *, libssh2_session_banner_get, NULL, (LIBSSH2_SESSION *session), (session))
WRAP_SESSION(int, libssh2_session_disconnect_ex, error,
	     (LIBSSH2_SESSION *session, int reason, const char *text, const char *lang),
	     (session, reason, text, lang))
WRAP_SESSION(int, libssh2_session_free, error, (LIBSSH2_SESSION *session), (session))
WRAP_SESSION(int, libssh2_userauth_publickey, error,
	     (LIBSSH2_SESSION *session, const char *user, const unsigned char *key, size_t len,
	      LIBSSH2_USERAUTH_PUBLICKEY_SIGN_FUNC((*sign)), void **abstract),
	     (session, user, key, len, sign, abstract))
WRAP_SESSION(char *, libssh2_userauth_list, NULL,
	     (LIBSSH2_SESSION *session, const char *user, unsigned len), (session, user, len))
WRAP_SESSION(LIBSSH2_CHANNEL *, libssh2_channel_open_ex, NULL,
	     (LIBSSH2_SESSION *session, const char *type, unsigned type_len, unsigned window,
	      unsigned packet, const char *message, unsigned message_len),
	     (session, type, type_len, window, packet, message, message_len))
WRAP_SESSION(int, libssh2_keepalive_send, error, (LIBSSH2_SESSION *session, int *next),
	     (session, next))
WRAP_RC(int, libssh2_channel_process_startup,
	(LIBSSH2_CHANNEL *channel, const char *request, unsigned request_len, const char *message,
	 unsigned message_len), (channel, request, request_len, message, message_len))
WRAP_RC(ssize_t, libssh2_channel_read_ex, (LIBSSH2_CHANNEL *channel, int stream, char *data, size_t n),
	(channel, stream, data, n))
WRAP_RC(ssize_t, libssh2_channel_write_ex,
	(LIBSSH2_CHANNEL *channel, int stream, const char *data, size_t n), (channel, stream, data, n))
WRAP_RC(int, libssh2_channel_send_eof, (LIBSSH2_CHANNEL *channel), (channel))
WRAP_RC(int, libssh2_channel_wait_closed, (LIBSSH2_CHANNEL *channel), (channel))
WRAP_RC(int, libssh2_channel_free, (LIBSSH2_CHANNEL *channel), (channel))
WRAP_RC(int, libssh2_channel_get_exit_signal,
	(LIBSSH2_CHANNEL *channel, char **signal, size_t *signal_len, char **message,
	 size_t *message_len, char **lang, size_t *lang_len),
	(channel, signal, signal_len, message, message_len, lang, lang_len))
