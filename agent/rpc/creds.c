/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/creds.h"

#include <string.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

#define JOIN_FILE_MAX 1024u

static enum tide_status load_identity(const char *dir, const char *node, struct agent_creds *creds, struct err *err)
{
    enum tide_status status = idir_load(dir, &creds->idir, err);
    const struct cert_name *name = &creds->idir.name;
    if (status != TIDE_OK || creds->idir.identity.insecure)
        return status;
    if (name->kind != CERT_AGENT)
        return err_set(err, TIDE_E_INVALID, "%s is not the identity of an agent; tidemark cluster issue agent %s makes one", dir, node);
    if (strcmp(name->name, "*") != 0 && strcmp(name->name, node) != 0)
        return err_set(err, TIDE_E_INVALID, "the certificate in %s is for node %s; this is node %s", dir, name->name, node);
    if (creds->idir.days_left == 0)
        return err_set(err, TIDE_E_DENIED, "the certificate in %s has expired; tidemark cluster issue agent %s makes another", dir, node);
    if (creds->idir.days_left < CERT_DAYS_WARN)
        log_warn("the certificate in %s expires in %u days; tidemark cluster issue agent %s makes another", dir,
                 creds->idir.days_left, node);
    return TIDE_OK;
}

static enum tide_status load_join(const char *text, struct join *ret_join, struct err *err)
{
    char *data = NULL;
    size_t bytes = 0;
    if (strncmp(text, JOIN_PREFIX ".", strlen(JOIN_PREFIX ".")) == 0)
        return join_parse(text, ret_join, err);
    enum tide_status status = fsx_read(text, JOIN_FILE_MAX, &data, &bytes, err);
    if (status == TIDE_OK && (status = join_parse(data, ret_join, err)) != TIDE_OK)
        err_wrap(err, "%s", text);
    if (data != NULL)
        secret_wipe(data, bytes);
    mem_free(data);
    return status;
}

enum tide_status creds_load(const char *identity, const char *join, const char *node, struct agent_creds *ret_creds,
                            struct err *err)
{
    struct agent_creds creds = {0};
    enum tide_status status = TIDE_OK;
    if (identity[0] != '\0' && join[0] != '\0')
        return err_set(err, TIDE_E_INVALID, "give --identity or --join-token, not both");
    if (identity[0] != '\0')
        status = load_identity(identity, node, &creds, err);
    else if (join[0] != '\0')
        status = load_join(join, &creds.join, err);
    if (status != TIDE_OK) {
        creds_release(&creds);
        return status;
    }
    *ret_creds = creds;
    ret_creds->http = (struct http_creds){.ca_pem = creds.idir.ca_pem,
                                          .cert_file = creds.idir.cert_file,
                                          .key_file = creds.idir.key_file,
                                          .token = join[0] != '\0' ? ret_creds->join.secret : NULL};
    return TIDE_OK;
}

void creds_release(struct agent_creds *creds)
{
    idir_release(&creds->idir);
    mem_free(creds->ca_pem);
    secret_wipe(&creds->join, sizeof creds->join);
    memset(creds, 0, sizeof *creds);
}

bool creds_want_ca(const struct agent_creds *creds)
{
    return creds->join.pin[0] != '\0' && creds->ca_pem == NULL;
}

enum tide_status creds_take_ca(struct agent_creds *creds, const char *pem, struct err *err)
{
    char pin[SHA256_HEX_CHARS + 1], *one = NULL;
    if (cert_pin(pem, pin, &one, err) != TIDE_OK)
        return err_set(err, TIDE_E_DENIED, "what it shows is not a CA");
    if (!secret_equal(pin, creds->join.pin, SHA256_HEX_CHARS)) {
        mem_free(one);
        return err_set(err, TIDE_E_DENIED,
                       "its CA (pin %s) is not the one that the join token names (pin %s): it is a coordinator of another "
                       "cluster, or somebody who pretends to be one",
                       pin, creds->join.pin);
    }
    creds->ca_pem = one;
    creds->http.ca_pem = one;
    return TIDE_OK;
}
