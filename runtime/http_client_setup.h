/* SPDX-License-Identifier: MIT */
/* http_client_setup: a request as libcurl's options; used by http_client.c only. Loop thread. */
#ifndef EXED_HTTP_CLIENT_SETUP_H
#define EXED_HTTP_CLIENT_SETUP_H

#include "http_client.h"
#include "http_client_lib.h"

/* Checks every field, and makes what messages call the request: "GET http://host:port" (for free()).
 * 0, or -ERR_INVALID with the field's name first, -ERR_MEMORY. */
int http_client_check(const struct http_client_lib *lib, const struct http_client_request *r,
		      char **subject, struct err *err);

/* Gives the handle all that r says and the rules of http_client.h. *headers is the list that the handle
 * uses, to be freed after it. 0 or -ERR_MEMORY. */
int http_client_setup(const struct http_client_lib *lib, CURL *easy,
		      const struct http_client_request *r, struct curl_slist **headers);

#endif
