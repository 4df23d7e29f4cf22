/* SPDX-License-Identifier: Apache-2.0 */
/* What may come from a peer: a frame's head and payload, a hello, a message of Raft. */

#include <xxhash.h>

#include "ckpt/base/mem.h"
#include "coordinator/net/frame.h"
#include "coordinator/raft/wire.h"
#include "tests/fuzz/fuzz.h"

static char *flat(const struct raft_wire *wire, size_t *ret_bytes)
{
    size_t bytes = wire->head_bytes, at = wire->head_bytes;
    for (size_t i = 0; i < wire->blob_count; i++)
        bytes += wire->blobs[i]->bytes;
    char *all = mem_alloc(bytes + 1);
    memcpy(all, wire->head, wire->head_bytes);
    for (size_t i = 0; i < wire->blob_count; i++) {
        memcpy(all + at, wire->blobs[i]->data, wire->blobs[i]->bytes);
        at += wire->blobs[i]->bytes;
    }
    *ret_bytes = bytes;
    return all;
}

/* What was understood can be said again, in the same bytes. */
static void message(const void *data, size_t bytes)
{
    struct raft_message m = {0};
    struct err err = {0};
    enum tide_status status = raft_message_decode(data, bytes, &m, &err);
    if (status != TIDE_OK) {
        FUZZ_CHECK(status == TIDE_E_VERSION || status == TIDE_E_LIMIT || status == TIDE_E_INVALID);
        FUZZ_CHECK(err.text[0] != '\0');
        return;
    }
    struct raft_wire wire = {0};
    size_t n;
    raft_message_encode(&m, &wire);
    char *again = flat(&wire, &n);
    FUZZ_CHECK(n == bytes && memcmp(again, data, n) == 0);
    mem_free(again);
    raft_wire_release(&wire);
    raft_message_release(&m);
}

static void config(const void *data, size_t bytes)
{
    struct raft_config decoded;
    struct err err = {0};
    if (raft_config_decode(data, bytes, &decoded, &err) != TIDE_OK) {
        FUZZ_CHECK(err.text[0] != '\0');
        return;
    }
    FUZZ_CHECK(decoded.count <= RAFT_MEMBERS_MAX);
    struct raft_blob *blob = raft_config_encode(&decoded);
    FUZZ_CHECK(blob->bytes == bytes && memcmp(blob->data, data, bytes) == 0);
    raft_blob_unref(blob);
}

static void frame(const uint8_t *data, size_t bytes)
{
    struct frame_head head;
    struct frame_hello hello;
    struct err err = {0};
    if (bytes < FRAME_HEAD_BYTES)
        return;
    for (int early = 0; early < 2; early++) {
        if (frame_head_read(data, early, &head, &err) != TIDE_OK) {
            FUZZ_CHECK(err.text[0] != '\0');
            continue;
        }
        FUZZ_CHECK(head.type == FRAME_MESSAGE || head.bytes <= FRAME_EARLY_MAX);
        if (head.bytes > bytes - FRAME_HEAD_BYTES)
            continue;
        enum tide_status status = frame_payload_check(&head, data + FRAME_HEAD_BYTES, &err);
        FUZZ_CHECK(status == TIDE_OK || err.text[0] != '\0');
    }
    if (frame_hello_read(data + FRAME_HEAD_BYTES, bytes - FRAME_HEAD_BYTES, &hello, &err) == TIDE_OK)
        FUZZ_CHECK(memchr(hello.cluster, '\0', sizeof hello.cluster) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_in in = {.at = data, .left = bytes};
    unsigned what = (unsigned)fuzz_number(&in, 1) % 3;
    uint8_t *exact = mem_alloc(in.left + 1); /* what reads behind its end is found */
    uint8_t *copy = exact + 1;
    if (in.left > 0)
        memcpy(copy, in.at, in.left);
    switch (what) {
    case 0:
        message(copy, in.left);
        break;
    case 1:
        config(copy, in.left);
        break;
    default:
        frame(copy, in.left);
        break;
    }
    mem_free(exact);
    return 0;
}
