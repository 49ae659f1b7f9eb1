/* SPDX-License-Identifier: MIT */
/* http_client_lib: dlopen of libcurl. The struct is the caller's. Loop thread. */
#include "http_client_lib.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#define LIBRARY "libcurl.so.4"

#define SYMBOL(name) { "curl_" #name, offsetof(struct http_client_lib, name) }

static const struct {
	const char *name;
	size_t offset;
} symbols[] = {
	SYMBOL(global_init),	   SYMBOL(global_cleanup),  SYMBOL(easy_init),
	SYMBOL(easy_cleanup),	   SYMBOL(easy_setopt),	    SYMBOL(easy_getinfo),
	SYMBOL(easy_pause),	   SYMBOL(easy_strerror),   SYMBOL(multi_init),
	SYMBOL(multi_cleanup),	   SYMBOL(multi_setopt),    SYMBOL(multi_add_handle),
	SYMBOL(multi_remove_handle), SYMBOL(multi_socket_action), SYMBOL(multi_info_read),
	SYMBOL(multi_assign),	   SYMBOL(slist_append),    SYMBOL(slist_free_all),
	SYMBOL(url),		   SYMBOL(url_set),	    SYMBOL(url_get),
	SYMBOL(url_cleanup),	   SYMBOL(url_strerror),    SYMBOL(free),
};

int http_client_lib_open(struct http_client_lib *lib, struct err *err)
{
	memset(lib, 0, sizeof(*lib));
	/* NODELETE: what OpenSSL leaves for the end of the process must still be there. */
	lib->handle = dlopen(LIBRARY, RTLD_LAZY | RTLD_LOCAL | RTLD_NODELETE);
	if (!lib->handle)
		return err_set(err, ERR_SYSTEM, "the HTTP client needs libcurl (package libcurl4): %s",
			       dlerror());
	for (size_t i = 0; i < sizeof(symbols) / sizeof(*symbols); i++) {
		void *found = dlsym(lib->handle, symbols[i].name);

		if (!found) {
			dlclose(lib->handle);
			lib->handle = NULL;
			return err_set(err, ERR_SYSTEM, "%s is too old: it has no %s", LIBRARY,
				       symbols[i].name);
		}
		memcpy((char *)lib + symbols[i].offset, &found, sizeof(found));
	}
	if (lib->global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
		return 0;
	dlclose(lib->handle);
	lib->handle = NULL;
	return err_set(err, ERR_SYSTEM, "%s cannot be started", LIBRARY);
}

void http_client_lib_close(struct http_client_lib *lib)
{
	if (!lib->handle)
		return;
	lib->global_cleanup();
	dlclose(lib->handle);
	lib->handle = NULL;
}
