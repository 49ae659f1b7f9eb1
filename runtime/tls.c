/* SPDX-License-Identifier: MIT */
/* tls: OpenSSL between two memory BIOs. libevent's own bufferevent for TLS hides the socket, and with
 * it half-closes and how many bytes wait; here they stay in http_conn's hands. Loop thread. */
#include "tls.h"

#include <event2/buffer.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE 16384 /* a TLS record's most */

struct tls {
	SSL *ssl;
	BIO *wire_in, *wire_out; /* the SSL's */
	bool broken;
	char problem[128];
};

/* ---- the context ---- */

/* The last thing OpenSSL complained of; its queue is empty after. */
static const char *ssl_reason(void)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = ERR_reason_error_string(code);

	ERR_clear_error();
	return reason ? reason : "unknown reason";
}

static int check_key_file(const char *path, struct err *err)
{
	struct stat st;

	if (stat(path, &st))
		return err_errno(err, "%.160s", path);
	if (st.st_mode & 07)
		return err_set(err, ERR_REFUSED,
			       "%.160s: has mode %04o, others may read it; chmod 600 (or 640)", path,
			       (unsigned)st.st_mode & 07777);
	return 0;
}

/* A file that cannot be opened is named with the system's reason: OpenSSL's is about its BIOs. */
static int check_readable(const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_errno(err, "%.160s", path);
	close(fd);
	return 0;
}

static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return -1; /* never ask on a terminal */
}

static int use_files(SSL_CTX *ctx, const char *cert, const char *key, struct err *err)
{
	SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
	if (check_readable(cert, err) || check_readable(key, err) || check_key_file(key, err))
		return -err->code;
	if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
		return err_set(err, ERR_INVALID, "%.160s: holds no certificate in PEM: %s", cert,
			       ssl_reason());
	if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1)
		return 0;
	if (ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH) {
		ERR_clear_error();
		return err_set(err, ERR_INVALID, "%.160s: is not the key of %.80s", key, cert);
	}
	return err_set(err, ERR_INVALID, "%.160s: holds no private key in PEM without a passphrase: %s",
		       key, ssl_reason());
}

static int use_client_ca(SSL_CTX *ctx, const char *path, struct err *err)
{
	STACK_OF(X509_NAME) *names;

	if (check_readable(path, err))
		return -err->code;
	names = SSL_load_client_CA_file(path);
	if (!names || SSL_CTX_load_verify_locations(ctx, path, NULL) != 1) {
		sk_X509_NAME_pop_free(names, X509_NAME_free);
		return err_set(err, ERR_INVALID, "%.160s: holds no certificate in PEM: %s", path,
			       ssl_reason());
	}
	SSL_CTX_set_client_CA_list(ctx, names);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return 0;
}

/* http/1.1 when it is offered; a client that offers only others must not take it for one of them. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *len,
			   const unsigned char *offered, unsigned n, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";

	(void)ssl;
	(void)arg;
	return SSL_select_next_proto((unsigned char **)out, len, ours, sizeof(ours) - 1, offered,
				     n) == OPENSSL_NPN_NEGOTIATED
		       ? SSL_TLSEXT_ERR_OK
		       : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void set_rules(SSL_CTX *ctx)
{
	static const unsigned char id[] = "exed";

	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	/* Of TLS 1.2 only forward secret, authenticated ciphers; those of 1.3 all are. */
	SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20");
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					 SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets need no memory of ours */
	SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
}

struct ssl_ctx_st *tls_context_new(const char *cert, const char *key, const char *client_ca,
				   struct err *err)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	ERR_clear_error();
	if (!ctx) {
		err_set(err, ERR_MEMORY, "no memory for TLS");
		return NULL;
	}
	set_rules(ctx);
	if (!use_files(ctx, cert, key, err) && (!client_ca || !use_client_ca(ctx, client_ca, err)))
		return ctx;
	SSL_CTX_free(ctx);
	return NULL;
}

struct ssl_ctx_st *tls_context_ref(struct ssl_ctx_st *ctx)
{
	if (ctx)
		SSL_CTX_up_ref(ctx);
	return ctx;
}

void tls_context_unref(struct ssl_ctx_st *ctx)
{
	SSL_CTX_free(ctx);
}

int tls_context_days(const struct ssl_ctx_st *ctx)
{
	int days = 0, seconds = 0;

	if (!ASN1_TIME_diff(&days, &seconds, NULL,
			    X509_get0_notAfter(SSL_CTX_get0_certificate(ctx))))
		return 0;
	return seconds < 0 ? days - 1 : days;
}

/* ---- a session ---- */

struct tls *tls_new(struct ssl_ctx_st *ctx)
{
	struct tls *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->ssl = SSL_new(ctx);
	t->wire_in = BIO_new(BIO_s_mem());
	t->wire_out = BIO_new(BIO_s_mem());
	if (!t->ssl || !t->wire_in || !t->wire_out) {
		BIO_free(t->wire_in);
		BIO_free(t->wire_out);
		SSL_free(t->ssl);
		free(t);
		ERR_clear_error();
		return NULL;
	}
	SSL_set_bio(t->ssl, t->wire_in, t->wire_out);
	SSL_set_accept_state(t->ssl);
	return t;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	SSL_free(t->ssl);
	free(t);
}

static int drain_out(struct tls *t, struct evbuffer *out)
{
	char *data;
	long n = BIO_get_mem_data(t->wire_out, &data);
	int rc = n > 0 && evbuffer_add(out, data, (size_t)n) ? -ERR_MEMORY : 0;

	(void)BIO_reset(t->wire_out);
	return rc;
}

/* Hands the SSL one piece of the wire. False: there is none. */
static bool feed(struct tls *t, struct evbuffer *wire)
{
	struct evbuffer_iovec run;
	int n;

	if (evbuffer_peek(wire, PIECE, NULL, &run, 1) < 1 || !run.iov_len)
		return false;
	n = BIO_write(t->wire_in, run.iov_base, run.iov_len > PIECE ? PIECE : (int)run.iov_len);
	if (n <= 0)
		return false;
	evbuffer_drain(wire, (size_t)n);
	return true;
}

/* What a call of the SSL that gave nothing means. */
static enum tls_state judge(struct tls *t, int rc)
{
	int what = SSL_get_error(t->ssl, rc);

	if (what == SSL_ERROR_WANT_READ || what == SSL_ERROR_WANT_WRITE)
		return TLS_OPEN;
	if (what == SSL_ERROR_ZERO_RETURN)
		return TLS_ENDED;
	t->broken = true;
	if (what == SSL_ERROR_SSL && ERR_GET_REASON(ERR_peek_error()) == SSL_R_HTTP_REQUEST) {
		ERR_clear_error();
		return TLS_PLAIN;
	}
	snprintf(t->problem, sizeof(t->problem), "%s", ssl_reason());
	return TLS_BROKEN;
}

/* Reads one piece into `in`: its length, or <= 0 as SSL_read. */
static int read_piece(struct tls *t, struct evbuffer *in, size_t most)
{
	size_t room = most - evbuffer_get_length(in);
	struct evbuffer_iovec space;
	int n;

	if (evbuffer_reserve_space(in, PIECE, &space, 1) < 1)
		return -1;
	n = SSL_read(t->ssl, space.iov_base, room < PIECE ? (int)room : PIECE);
	space.iov_len = n > 0 ? (size_t)n : 0;
	evbuffer_commit_space(in, &space, 1);
	return n;
}

enum tls_state tls_receive(struct tls *t, struct evbuffer *wire, struct evbuffer *in, size_t most,
			   struct evbuffer *out)
{
	enum tls_state state = t->broken ? TLS_BROKEN : TLS_OPEN;

	ERR_clear_error();
	while (state == TLS_OPEN && evbuffer_get_length(in) < most) {
		int n = SSL_is_init_finished(t->ssl) ? read_piece(t, in, most)
						     : SSL_do_handshake(t->ssl);

		if (n > 0)
			continue;
		state = judge(t, n);
		if (state == TLS_OPEN && !feed(t, wire))
			break;
	}
	if (drain_out(t, out))
		state = TLS_BROKEN;
	return state;
}

int tls_send(struct tls *t, const void *data, size_t n, struct evbuffer *out)
{
	size_t sent;

	if (t->broken || !SSL_is_init_finished(t->ssl))
		return -ERR_PROTOCOL;
	ERR_clear_error();
	if (n && SSL_write_ex(t->ssl, data, n, &sent) != 1) {
		judge(t, 0);
		t->broken = true;
		return -ERR_PROTOCOL;
	}
	return drain_out(t, out);
}

void tls_end(struct tls *t, struct evbuffer *out)
{
	if (t->broken || !SSL_is_init_finished(t->ssl))
		return;
	ERR_clear_error();
	SSL_shutdown(t->ssl);
	ERR_clear_error();
	drain_out(t, out);
}

bool tls_ready(const struct tls *t)
{
	return !t->broken && SSL_is_init_finished(t->ssl);
}

const char *tls_problem(const struct tls *t)
{
	return t->problem;
}

/* ---- who the client is ---- */

/* As UTF-8, with what is not printable ASCII (and %) as %XX: no two names look alike. */
static bool copy_name(const ASN1_STRING *s, char *out, size_t cap)
{
	unsigned char *utf8 = NULL;
	int len = ASN1_STRING_to_UTF8(&utf8, s);
	size_t used = 0;

	for (int i = 0; i < len && used + 4 <= cap; i++) {
		if (utf8[i] >= 0x20 && utf8[i] < 0x7f && utf8[i] != '%')
			out[used++] = (char)utf8[i];
		else
			used += (size_t)snprintf(out + used, 4, "%%%02X", utf8[i]);
	}
	out[used] = '\0';
	OPENSSL_free(utf8);
	return used > 0;
}

static bool subject_name(X509 *cert, char *out, size_t cap)
{
	X509_NAME *subject = X509_get_subject_name(cert);
	int i = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

	return i >= 0 && copy_name(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i)), out, cap);
}

static bool alternative_name(X509 *cert, char *out, size_t cap)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	bool found = false;

	for (int i = 0; !found && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type == GEN_DNS || name->type == GEN_EMAIL || name->type == GEN_URI)
			found = copy_name(name->d.ia5, out, cap);
	}
	GENERAL_NAMES_free(names);
	return found;
}

bool tls_client_name(const struct tls *t, char *out, size_t cap)
{
	X509 *cert = SSL_get1_peer_certificate(t->ssl);
	bool found = cert && (subject_name(cert, out, cap) || alternative_name(cert, out, cap));

	if (cert && !found)
		snprintf(out, cap, "(no name)");
	X509_free(cert);
	return cert != NULL;
}
