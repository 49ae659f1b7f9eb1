/* SPDX-License-Identifier: MIT */
/* http_client_setup: checks a request and hands it to libcurl. No state. Loop thread. */
#include "http_client_setup.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "version.h"

#define MAX_URL 8192

static const char *const methods[] = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS",
				       NULL };

/* Those that frame the message or end the connection are the client's own. */
static const char *const own_headers[] = { "content-length", "transfer-encoding", "connection",
					   "expect", "upgrade", "te", "trailer", NULL };

/* ---- checks ---- */

static int check_method(const char *method, struct err *err)
{
	for (size_t i = 0; methods[i]; i++)
		if (!strcmp(methods[i], method))
			return 0;
	return err_set(err, ERR_INVALID, "method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS");
}

static bool is_token(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr("!#$%&'*+-.^_`|~", s[i]))
			return false;
	return n > 0;
}

static bool is_own(const char *name, size_t n)
{
	for (size_t i = 0; own_headers[i]; i++)
		if (strlen(own_headers[i]) == n && !strncasecmp(own_headers[i], name, n))
			return true;
	return false;
}

/* Values are never shown: they may be secrets. */
static int check_header(const char *line, struct err *err)
{
	const char *colon = strchr(line, ':');
	size_t n;

	if (!colon || !is_token(line, (size_t)(colon - line)))
		return err_set(err, ERR_INVALID,
			       "headers: a name is letters, digits and - only, and a value is text");
	n = (size_t)(colon - line);
	if (is_own(line, n))
		return err_set(err, ERR_INVALID, "headers: %.*s is set by exed itself", (int)n, line);
	for (const char *c = colon + 1; *c; c++)
		if (((unsigned char)*c < ' ' && *c != '\t') || *c == 127)
			return err_set(err, ERR_INVALID,
				       "headers: the value of %.*s has control bytes in it", (int)n, line);
	return 0;
}

static char *make_subject(const struct http_client_lib *lib, CURLU *u,
			  const struct http_client_request *r)
{
	struct buf b = { 0 };
	char *scheme = NULL, *host = NULL, *port = NULL, *text = NULL;
	size_t n;

	lib->url_get(u, CURLUPART_SCHEME, &scheme, 0);
	lib->url_get(u, CURLUPART_HOST, &host, 0);
	lib->url_get(u, CURLUPART_PORT, &port, 0);
	if (r->socket)
		buf_printf(&b, "%s unix://%s", r->method, r->socket);
	else if (scheme && host)
		buf_printf(&b, "%s %s://%s%s%s", r->method, scheme, host, port ? ":" : "",
			   port ? port : "");
	else
		b.failed = true;
	buf_putc(&b, '\0');
	text = buf_take(&b, &n);
	buf_deinit(&b);
	lib->free(scheme);
	lib->free(host);
	lib->free(port);
	return text;
}

/* The message has nothing of the URL, which may hold a password. */
static int check_url(const struct http_client_lib *lib, CURLU *u, const char *url, struct err *err)
{
	CURLUcode rc;

	if (strlen(url) > MAX_URL)
		return err_set(err, ERR_INVALID, "url: longer than %d bytes", MAX_URL);
	if (strncasecmp(url, "http://", 7) && strncasecmp(url, "https://", 8))
		return err_set(err, ERR_INVALID, "url: it must begin with http:// or https://");
	rc = lib->url_set(u, CURLUPART_URL, url, 0);
	if (rc == CURLUE_OUT_OF_MEMORY)
		return err_set(err, ERR_MEMORY, "no memory for a URL");
	return rc ? err_set(err, ERR_INVALID, "url: %s", lib->url_strerror(rc)) : 0;
}

static int check_fields(const struct http_client_request *r, struct err *err)
{
	int rc = check_method(r->method, err);

	for (size_t i = 0; !rc && r->headers && r->headers[i]; i++)
		rc = check_header(r->headers[i], err);
	if (rc)
		return rc;
	if (r->socket && (*r->socket != '/' ||
			  strlen(r->socket) >= sizeof(((struct sockaddr_un *)0)->sun_path)))
		return err_set(err, ERR_INVALID, "socket: an absolute path of at most 107 bytes");
	if (r->body && !strcmp(r->method, "HEAD"))
		return err_set(err, ERR_INVALID, "body: HEAD has none");
	return 0;
}

int http_client_check(const struct http_client_lib *lib, const struct http_client_request *r,
		      char **subject, struct err *err)
{
	int rc = check_fields(r, err);
	CURLU *u;

	if (rc)
		return rc;
	u = lib->url();
	if (!u)
		return err_set(err, ERR_MEMORY, "no memory for a URL");
	rc = check_url(lib, u, r->url, err);
	if (!rc) {
		*subject = make_subject(lib, u, r);
		if (!*subject)
			rc = err_set(err, ERR_MEMORY, "no memory for a request");
	}
	lib->url_cleanup(u);
	return rc;
}

/* ---- options ---- */

static int add_line(const struct http_client_lib *lib, struct curl_slist **list, const char *line)
{
	struct curl_slist *longer = lib->slist_append(*list, line);

	if (!longer)
		return -ERR_MEMORY;
	*list = longer;
	return 0;
}

/* libcurl takes "Name:" for "send none of that name", and "Name;" for an empty one. */
static int add_header(const struct http_client_lib *lib, struct curl_slist **list, const char *line)
{
	const char *colon = strchr(line, ':');
	char *empty;
	int rc;

	if (colon[1 + strspn(colon + 1, " \t")])
		return add_line(lib, list, line);
	empty = strndup(line, (size_t)(colon - line) + 1);
	if (!empty)
		return -ERR_MEMORY;
	empty[colon - line] = ';';
	rc = add_line(lib, list, empty);
	free(empty);
	return rc;
}

static bool has_header(const struct http_client_request *r, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; r->headers && r->headers[i]; i++)
		if (!strncasecmp(r->headers[i], name, n) && r->headers[i][n] == ':')
			return true;
	return false;
}

static int set_headers(const struct http_client_lib *lib, CURL *easy,
		       const struct http_client_request *r, struct curl_slist **list)
{
	/* Not what libcurl would add by itself: a wait before a body, a type that we do not know. */
	int rc = add_line(lib, list, "Expect:");

	if (!rc && !has_header(r, "Content-Type"))
		rc = add_line(lib, list, "Content-Type:");
	if (!rc && !has_header(r, "User-Agent"))
		rc = add_line(lib, list, "User-Agent: exed/" EXED_VERSION);
	for (size_t i = 0; !rc && r->headers && r->headers[i]; i++)
		rc = add_header(lib, list, r->headers[i]);
	lib->easy_setopt(easy, CURLOPT_HTTPHEADER, *list);
	return rc;
}

static int set_method(const struct http_client_lib *lib, CURL *easy,
		      const struct http_client_request *r)
{
	bool carries = !strcmp(r->method, "POST") || !strcmp(r->method, "PUT") ||
		       !strcmp(r->method, "PATCH");

	if (!strcmp(r->method, "HEAD"))
		return (int)lib->easy_setopt(easy, CURLOPT_NOBODY, 1L);
	if (r->body || carries) {
		lib->easy_setopt(easy, CURLOPT_POST, 1L);
		lib->easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
				 (curl_off_t)(r->body ? r->body_len : 0));
		if (lib->easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, r->body ? r->body : ""))
			return -ERR_MEMORY;
	}
	return (int)lib->easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r->method);
}

static int set_tls(const struct http_client_lib *lib, CURL *easy, const struct http_client_request *r)
{
	int rc = 0;

	lib->easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	lib->easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	lib->easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (r->ca) {
		rc |= (int)lib->easy_setopt(easy, CURLOPT_CAINFO, r->ca);
		rc |= (int)lib->easy_setopt(easy, CURLOPT_CAPATH, (char *)NULL);
	}
	if (r->cert)
		rc |= (int)lib->easy_setopt(easy, CURLOPT_SSLCERT, r->cert);
	if (r->key)
		rc |= (int)lib->easy_setopt(easy, CURLOPT_SSLKEY, r->key);
	return rc;
}

static int set_way(const struct http_client_lib *lib, CURL *easy, const struct http_client_request *r)
{
	int rc = (int)lib->easy_setopt(easy, CURLOPT_URL, r->url);

	if (r->socket)
		rc |= (int)lib->easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, r->socket);
	if (r->socket || !r->proxy)
		rc |= (int)lib->easy_setopt(easy, CURLOPT_PROXY, "");
	lib->easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	lib->easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	lib->easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	lib->easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	lib->easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
	lib->easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	lib->easy_setopt(easy, CURLOPT_FRESH_CONNECT, r->repeatable ? 0L : 1L);
	lib->easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	lib->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	/* Without it the end of a call waits, on the loop, for a look-up that goes on. */
	lib->easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	/* The call has its own limit, which holds while it waits for a place too; libcurl's is 5 min. */
	lib->easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)r->timeout_ms + 1000);
	return rc;
}

int http_client_setup(const struct http_client_lib *lib, CURL *easy,
		      const struct http_client_request *r, struct curl_slist **headers)
{
	*headers = NULL;
	if (set_headers(lib, easy, r, headers) || set_method(lib, easy, r) || set_tls(lib, easy, r) ||
	    set_way(lib, easy, r))
		return -ERR_MEMORY;
	return 0;
}
