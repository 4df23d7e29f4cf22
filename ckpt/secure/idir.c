/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/secure/idir.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"

#define DIR_MODE 0700
#define OPEN_MODE 0644
#define SECRET_MODE 0600

static enum tide_status read_identity(const char *path, struct identity *ret_identity, struct err *err)
{
    char *file = mem_format("%s/" IDENTITY_FILE, path), *text = NULL;
    size_t bytes = 0;
    enum tide_status status = fsx_read(file, IDENTITY_BYTES_MAX, &text, &bytes, err);
    if (status == TIDE_E_NOT_FOUND)
        err_set(err, status,
                "%s is not an identity directory: it has no " IDENTITY_FILE "; tidemark cluster init makes them", path);
    else if (status == TIDE_OK && (status = identity_parse(text, bytes, ret_identity, err)) != TIDE_OK)
        err_wrap(err, "%s", file);
    mem_free(text);
    mem_free(file);
    return status;
}

static enum tide_status read_pem(const char *path, const char *name, char **ret_file, char **ret_pem, struct err *err)
{
    size_t bytes;
    *ret_file = mem_format("%s/%s", path, name);
    enum tide_status status = fsx_read(*ret_file, CERT_PEM_MAX, ret_pem, &bytes, err);
    if (status == TIDE_E_NOT_FOUND)
        err_set(err, status, "%s is not there; copy the whole of the directory that tidemark cluster init or issue made",
                *ret_file);
    return status;
}

static enum tide_status check_key_mode(const char *file, struct err *err)
{
    struct stat st;
    if (stat(file, &st) != 0)
        return err_errno(err, "cannot examine %s", file);
    if (st.st_mode & 077)
        return err_set(err, TIDE_E_DENIED,
                       "%s may be read by others (mode %04o); whoever has it can speak for its owner: chmod 600 %s", file,
                       st.st_mode & 07777, file);
    return TIDE_OK;
}

/* What the certificate says against what identity.json says. */
static enum tide_status check_same(const char *path, const struct idir *idir, struct err *err)
{
    const struct cert_name *name = &idir->name;
    if (strcmp(name->cluster, idir->identity.cluster) != 0)
        return err_set(err, TIDE_E_INVALID, "%s: the certificate is for cluster %s, " IDENTITY_FILE " for cluster %s", path,
                       name->cluster, idir->identity.cluster);
    uint32_t member = name->kind == CERT_MEMBER ? name->member : 0;
    if (member != idir->identity.member)
        return err_set(err, TIDE_E_INVALID,
                       "%s: the certificate is that of %s %" PRIu32 ", " IDENTITY_FILE " says member %" PRIu32, path,
                       member ? "member" : "no member,", member, idir->identity.member);
    return TIDE_OK;
}

enum tide_status idir_load(const char *path, struct idir *ret_idir, struct err *err)
{
    struct idir idir = {0};
    enum tide_status status = read_identity(path, &idir.identity, err);
    if (status != TIDE_OK)
        return status;
    if (!idir.identity.insecure) {
        status = read_pem(path, IDENTITY_CA_FILE, &idir.ca_file, &idir.ca_pem, err);
        if (status == TIDE_OK)
            status = read_pem(path, IDENTITY_CERT_FILE, &idir.cert_file, &idir.cert_pem, err);
        if (status == TIDE_OK)
            status = read_pem(path, IDENTITY_KEY_FILE, &idir.key_file, &idir.key_pem, err);
        if (status == TIDE_OK)
            status = check_key_mode(idir.key_file, err);
        if (status == TIDE_OK &&
            (status = cert_check(idir.cert_pem, idir.key_pem, idir.ca_pem, &idir.name, &idir.days_left, err)) != TIDE_OK)
            err_wrap(err, "%s", path);
        if (status == TIDE_OK)
            status = check_same(path, &idir, err);
    }
    if (status != TIDE_OK) {
        idir_release(&idir);
        return status;
    }
    *ret_idir = idir;
    return TIDE_OK;
}

void idir_release(struct idir *idir)
{
    codec_release(&identity_codec, &idir->identity);
    mem_free(idir->ca_file);
    mem_free(idir->cert_file);
    mem_free(idir->key_file);
    mem_free(idir->ca_pem);
    mem_free(idir->cert_pem);
    cert_key_free(idir->key_pem);
    memset(idir, 0, sizeof *idir);
}

static enum tide_status put(const char *path, const char *name, const char *text, mode_t mode, struct err *err)
{
    char *file = mem_format("%s/%s", path, name);
    enum tide_status status = fsx_replace(file, text, strlen(text), mode, err);
    mem_free(file);
    return status;
}

enum tide_status idir_save(const char *path, const struct identity *identity, const char *ca_pem, const char *cert_pem,
                           const char *key_pem, struct err *err)
{
    enum tide_status status = fsx_mkdirs(path, DIR_MODE, err);
    json_t *json = codec_encode(&identity_codec, identity, CODEC_COMPACT);
    char *dumped = json_dumps(json, JSON_INDENT(2)), *text = mem_format("%s\n", dumped ? dumped : "{}");
    json_decref(json);
    mem_free(dumped);
    if (status == TIDE_OK && key_pem != NULL)
        status = put(path, IDENTITY_KEY_FILE, key_pem, SECRET_MODE, err);
    if (status == TIDE_OK && cert_pem != NULL)
        status = put(path, IDENTITY_CERT_FILE, cert_pem, OPEN_MODE, err);
    if (status == TIDE_OK && ca_pem != NULL)
        status = put(path, IDENTITY_CA_FILE, ca_pem, OPEN_MODE, err);
    if (status == TIDE_OK)
        status = put(path, IDENTITY_FILE, text, OPEN_MODE, err);
    mem_free(text);
    return status;
}
