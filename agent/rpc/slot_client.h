/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_SLOT_CLIENT_H
#define AGENT_RPC_SLOT_CLIENT_H

/* Agent to agent: asking another's port for what lies in its memory (slot_server.h). Who asks shows the secret of the job's generation: who
 * is of another generation gets nothing. */

#include <curl/curl.h>

#include "ckpt/format/layout.h"
#include "ckpt/wire/node.h"

#define SLOT_CONNECT_S 5L
#define SLOT_STALL_S 10L       /* without SLOT_STALL_BYTES a second for so long: given up */
#define SLOT_STALL_BYTES 1024L
#define SLOT_SUM_BYTES_MAX ((RANK_CHUNKS_MAX + 16u) * sizeof(struct digest)) /* the digests of one slot */

struct copy_source {
    char address[ADDRESS_MAX + 1];
    uint32_t port;
    char pin[PIN_CHARS + 1]; /* of the key that it shows there; empty: it is plain */
    char token[TIDE_TOKEN_CHARS + 1];
};

struct slot_question {
    const struct copy_source *source;
    const char *query; /* behind the path's '?' */
    long connect_s;    /* 0: SLOT_CONNECT_S */
    long deadline_ms;  /* all of it */
    curl_write_callback take;
    void *context;
};

/* Blocks. `curl` may be used again, by one thread at a time, and keeps its connection. An answer that `take` does not want is UNAVAILABLE.
 * Errors: NOT_FOUND (it is not there any more), UNAVAILABLE (no answer, or not allowed yet), IO (it is not given). */
MUST_USE enum tide_status slot_client_ask(CURL *curl, const struct slot_question *question, struct err *err);
/* The same, and the answer is kept whole; the question's take and context are not used. ret_data: heap memory. Errors: also CORRUPT (more
 * than `most` bytes). */
MUST_USE enum tide_status slot_client_get(CURL *curl, const struct slot_question *question, size_t most, void **ret_data, size_t *ret_count,
                                          struct err *err);

#endif
