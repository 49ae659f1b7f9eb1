/* SPDX-License-Identifier: MIT */
/* dns: who is asked for addresses of names: the name servers of [runtime] resolver or else those
 * of /etc/resolv.conf, after /etc/hosts. An evdns_base with its servers, limits and files; it
 * belongs to the thread of its event_base. */
#ifndef EXED_DNS_H
#define EXED_DNS_H

#include <event2/dns.h>
#include <stdbool.h>

struct dns;

/* servers: addresses with or without a port, separated by commas, as dns_is_server takes them
 * (copied); NULL: those of /etc/resolv.conf. Search domains and options come from there always.
 * NULL when memory is out. */
struct dns *dns_new(struct event_base *base, const char *servers);
/* Ends it. tell: lookups that wait fail, from the loop; else they are never answered. */
void dns_free(struct dns *d, bool tell);

/* Other servers than before, for what is asked from now on. Nothing happens when they are the
 * same. -ERR_MEMORY leaves it as it was. */
int dns_set_servers(struct dns *d, const char *servers);

/* What evdns_getaddrinfo asks. Reads /etc/hosts and /etc/resolv.conf again when they have changed;
 * valid until dns_free. */
struct evdns_base *dns_base(struct dns *d);

/* Whether the text is an address, perhaps with a port: 10.0.0.2, 10.0.0.2:53, ::1, [::1]:53. */
bool dns_is_server(const char *text);
/* An error of evdns_getaddrinfo (EVUTIL_EAI_x; 0: an empty answer) in words for people. Static. */
const char *dns_why(int error);

#endif
