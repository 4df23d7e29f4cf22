/* SPDX-License-Identifier: Apache-2.0 */
/* Who is at the other end. libmicrohttpd asks for a client's certificate and then serves whoever came, with or without
 * one, so it is verified here. */
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "coordinator/http/inner.h"

#define NO_CERTIFICATE "the client brought no certificate"

/* The one URI of ours in the certificate; NULL, or why there is none. */
static const char *take_name(gnutls_x509_crt_t cert, char ret_name[CERT_NAME_MAX + 1])
{
    unsigned found = 0;
    for (unsigned i = 0;; i++) {
        char text[CERT_NAME_MAX + 1];
        size_t bytes = sizeof text;
        int type = gnutls_x509_crt_get_subject_alt_name(cert, i, text, &bytes, NULL);
        if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        if (type == GNUTLS_E_SHORT_MEMORY_BUFFER) /* longer than any of ours */
            continue;
        if (type < 0)
            return "the client's certificate cannot be read";
        if (type != GNUTLS_SAN_URI || bytes > CERT_NAME_MAX || memchr(text, '\0', bytes) != NULL)
            continue;
        text[bytes] = '\0';
        if (strncmp(text, CERT_SCHEME, strlen(CERT_SCHEME)) != 0)
            continue;
        memcpy(ret_name, text, bytes + 1);
        found++;
    }
    if (found == 1)
        return NULL;
    ret_name[0] = '\0';
    return "the client's certificate does not carry one name of a tidemark cluster";
}

/* One whose number cannot be told could not be revoked by it either. */
static const char *take_serial(gnutls_x509_crt_t cert, char ret_serial[SERIAL_CHARS + 1])
{
    unsigned char bytes[SERIAL_CHARS / 2 + 1]; /* a zero in front: it is no negative number */
    size_t count = sizeof bytes;
    ret_serial[0] = '\0';
    if (gnutls_x509_crt_get_serial(cert, bytes, &count) == GNUTLS_E_SUCCESS)
        serial_format(bytes, count, ret_serial);
    return ret_serial[0] != '\0' ? NULL : "the client's certificate has no serial number as it should";
}

static const char *read_cert(const gnutls_datum_t *der, struct connection *to)
{
    gnutls_x509_crt_t cert;
    if (gnutls_x509_crt_init(&cert) != GNUTLS_E_SUCCESS)
        return "no memory for the client's certificate";
    const char *fault = "the client's certificate cannot be read";
    char name[CERT_NAME_MAX + 1], serial[SERIAL_CHARS + 1];
    if (gnutls_x509_crt_import(cert, der, GNUTLS_X509_FMT_DER) == GNUTLS_E_SUCCESS)
        fault = take_serial(cert, serial);
    if (fault == NULL)
        fault = take_name(cert, name);
    if (fault == NULL) {
        to->peer = mem_strdup(name);
        to->peer_serial = mem_strdup(serial);
    }
    gnutls_x509_crt_deinit(cert);
    return fault;
}

static const char *look(gnutls_session_t session, struct connection *to)
{
    static const char purpose[] = GNUTLS_KP_TLS_WWW_CLIENT;
    gnutls_typed_vdata_st wanted = {.type = GNUTLS_DT_KEY_PURPOSE_OID};
    unsigned status = 0, count = 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    if (chain == NULL || count == 0)
        return NO_CERTIFICATE;
    const char *oid = purpose;
    memcpy(&wanted.data, &oid, sizeof oid); /* it is only read */
    if (gnutls_certificate_verify_peers(session, &wanted, 1, &status) != GNUTLS_E_SUCCESS)
        return "the client's certificate cannot be verified";
    if (status & GNUTLS_CERT_EXPIRED)
        return "the client's certificate has expired";
    if (status & GNUTLS_CERT_NOT_ACTIVATED)
        return "the client's certificate is not valid yet: do the clocks agree?";
    if (status != 0)
        return "the client's certificate was not issued by this cluster's CA";
    return read_cert(&chain[0], to);
}

void peer_look(struct connection *connection)
{
    if (connection->peer_known)
        return;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    connection->peer_known = true;
    connection->peer_fault = info ? look((gnutls_session_t)info->tls_session, connection) : NO_CERTIFICATE;
}
