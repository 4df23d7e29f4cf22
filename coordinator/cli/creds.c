/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/creds.h"

#include <string.h>

#include "ckpt/base/mem.h"
#include "coordinator/cli/term.h"

/* Empty is as good as not given. */
static const char *choose(const char *given, option_getenv environment, const char *name)
{
    const char *value = given != NULL ? given : environment(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

/* The members' addresses as one list. */
static char *urls_of(const struct identity *identity)
{
    char *urls = NULL;
    for (size_t i = 0; i < identity->members.count; i++) {
        char *longer = mem_format("%s%s%s", urls ? urls : "", urls ? "," : "", identity->members.items[i].api);
        mem_free(urls);
        urls = longer;
    }
    return urls;
}

static void warn_end(const char *dir, const struct idir *idir)
{
    if (idir->identity.insecure || idir->days_left >= CERT_DAYS_WARN)
        return;
    if (idir->days_left == 0)
        say_note("the certificate in %s has expired; tidemark cluster issue makes another", dir);
    else
        say_note("the certificate in %s expires in %u days; tidemark cluster issue makes another", dir, idir->days_left);
}

enum tide_status creds_load(const struct options *options, option_getenv environment, struct creds *ret_creds,
                            struct fault *fault)
{
    static const struct options none;
    const struct options *o = options ? options : &none;
    struct creds creds = {0};
    struct err err = {0};
    const char *dir = choose(o->identity, environment, "TIDEMARK_IDENTITY");
    const char *urls = choose(o->coordinator, environment, "TIDEMARK_COORDINATOR");
    if (dir != NULL && idir_load(dir, &creds.idir, &err) != TIDE_OK)
        return fault_set(fault, err.status, NULL, "%s", err.text);
    if (dir != NULL && options != NULL)
        warn_end(dir, &creds.idir);
    if (o->token != NULL && options != NULL)
        say_note("--token is seen by whoever lists the processes of this machine; TIDEMARK_TOKEN is not");
    const char *ca = choose(o->cacert, environment, "TIDEMARK_CACERT");
    creds.http = (struct http_creds){.ca_file = ca ? ca : creds.idir.ca_file,
                                     .cert_file = creds.idir.cert_file,
                                     .key_file = creds.idir.key_file,
                                     .token = choose(o->token, environment, "TIDEMARK_TOKEN")};
    creds.urls = urls != NULL ? mem_strdup(urls) : urls_of(&creds.idir.identity);
    if (creds.urls == NULL)
        creds.urls = mem_strdup(COORDINATOR_DEFAULT);
    *ret_creds = creds;
    return TIDE_OK;
}

void creds_release(struct creds *creds)
{
    idir_release(&creds->idir);
    mem_free(creds->urls);
    memset(creds, 0, sizeof *creds);
}
