/* SPDX-License-Identifier: MIT */
/* http_client_lib: libcurl, loaded when the first request is made. Linked in, it and the thirty
 * libraries that it brings would cost each start of exed and of each task 4.5 ms of 3.5 to 8
 * (measured), and most of them make no request. Loop thread. */
#ifndef EXED_HTTP_CLIENT_LIB_H
#define EXED_HTTP_CLIENT_LIB_H

#include <curl/curl.h>

#include "err.h"

/* libcurl's functions under their own names, without `curl_`. */
struct http_client_lib {
	void *handle;
	__typeof__(&curl_global_init) global_init;
	__typeof__(&curl_global_cleanup) global_cleanup;
	__typeof__(&curl_easy_init) easy_init;
	__typeof__(&curl_easy_cleanup) easy_cleanup;
	__typeof__(&curl_easy_setopt) easy_setopt;
	__typeof__(&curl_easy_getinfo) easy_getinfo;
	__typeof__(&curl_easy_pause) easy_pause;
	__typeof__(&curl_easy_strerror) easy_strerror;
	__typeof__(&curl_multi_init) multi_init;
	__typeof__(&curl_multi_cleanup) multi_cleanup;
	__typeof__(&curl_multi_setopt) multi_setopt;
	__typeof__(&curl_multi_add_handle) multi_add_handle;
	__typeof__(&curl_multi_remove_handle) multi_remove_handle;
	__typeof__(&curl_multi_socket_action) multi_socket_action;
	__typeof__(&curl_multi_info_read) multi_info_read;
	__typeof__(&curl_multi_assign) multi_assign;
	__typeof__(&curl_slist_append) slist_append;
	__typeof__(&curl_slist_free_all) slist_free_all;
	__typeof__(&curl_url) url;
	__typeof__(&curl_url_set) url_set;
	__typeof__(&curl_url_get) url_get;
	__typeof__(&curl_url_cleanup) url_cleanup;
	__typeof__(&curl_url_strerror) url_strerror;
	__typeof__(&curl_free) free;
};

/* Loads it and makes it ready. 0 or -ERR_SYSTEM, saying which package is missing. */
int http_client_lib_open(struct http_client_lib *lib, struct err *err);
/* Gives it back; it stays in memory. Nothing when it was not opened. */
void http_client_lib_close(struct http_client_lib *lib);

#endif
