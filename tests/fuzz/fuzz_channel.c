/* SPDX-License-Identifier: Apache-2.0 */
/* What may stand where a channel log should be, read when a job is restarted. */

#include "ckpt/base/mem.h"
#include "ckpt/cut/channel.h"
#include "tests/fuzz/fuzz.h"

/* Read all of it. *ret_bytes: what was understood, written again. */
static enum tide_status read_all(const uint8_t *log, size_t bytes, uint8_t *again, size_t *ret_bytes, struct err *err)
{
    struct cut_channel channel;
    struct cut_comm comms[CUT_COMMS_MAX];
    struct cut_entry entry;
    const void *payload = log;
    enum tide_status status = cut_channel_open(&channel, log, bytes, err);
    if (status != TIDE_OK)
        return status;
    FUZZ_CHECK(channel.comms <= CUT_COMMS_MAX);
    for (uint32_t i = 0; i < channel.comms; i++) {
        cut_channel_comm(&channel, i, &comms[i]);
        FUZZ_CHECK(comms[i].size > 0 && memchr(comms[i].name, 0, sizeof comms[i].name) != NULL);
    }
    cut_channel_print_head(again, comms, channel.comms);
    *ret_bytes = cut_channel_head_bytes(channel.comms);
    while ((status = cut_channel_next(&channel, &entry, &payload, err)) == TIDE_OK && payload != NULL) {
        FUZZ_CHECK((const uint8_t *)payload >= log && (const uint8_t *)payload + entry.bytes <= log + bytes);
        void *to = cut_channel_frame(again + *ret_bytes, &entry);
        memcpy(to, payload, entry.bytes);
        *ret_bytes += cut_channel_entry_bytes(entry.bytes);
    }
    return status;
}

/* At the end of a block of its own, so that a byte too far is found. */
static void any_bytes(const uint8_t *data, size_t bytes)
{
    struct err err = {0};
    size_t length = 0;
    uint8_t *block = mem_alloc(bytes + 1), *again = mem_alloc(bytes + 1);
    if (bytes > 0)
        memcpy(block + 1, data, bytes);
    enum tide_status status = read_all(block + 1, bytes, again, &length, &err);
    FUZZ_CHECK(status == TIDE_OK ? length == bytes : status == TIDE_E_CORRUPT && err.text[0] != '\0');
    mem_free(block);
    mem_free(again);
}

/* Messages, invented: what is written is read. Then with one byte changed, and cut short. */
static void round_trip(struct fuzz_in *in)
{
    struct err err = {0};
    size_t room = cut_channel_head_bytes(4) + 16 * in->left + 64, bytes, length = 0, given;
    size_t change = (size_t)fuzz_number(in, 2), shorter = (size_t)fuzz_number(in, 1);
    uint8_t *log = mem_alloc(room), *again = mem_alloc(room);
    struct cut_comm comms[4] = {0};
    uint32_t count = (uint32_t)fuzz_number(in, 1) % 5;
    for (uint32_t i = 0; i < count; i++) {
        comms[i] = (struct cut_comm){
            .id = fuzz_number(in, 8), .collectives = fuzz_number(in, 8), .size = 1 + (uint32_t)fuzz_number(in, 1)};
        const uint8_t *name = fuzz_take(in, CUT_COMM_NAME_BYTES - 1, &given);
        for (size_t k = 0; k < given; k++)
            comms[i].name[k] = (char)(name[k] | 1);
    }
    cut_channel_print_head(log, comms, count);
    bytes = cut_channel_head_bytes(count);
    while (in->left > 0) {
        struct cut_entry entry = {
            .comm = fuzz_number(in, 1), .source = (uint32_t)fuzz_number(in, 1), .tag = (int32_t)fuzz_number(in, 4)};
        const uint8_t *payload = fuzz_take(in, (size_t)fuzz_number(in, 1), &given);
        entry.bytes = given;
        if (bytes + cut_channel_entry_bytes(given) > room)
            break;
        void *to = cut_channel_frame(log + bytes, &entry);
        if (given > 0)
            memcpy(to, payload, given);
        bytes += cut_channel_entry_bytes(given);
    }
    FUZZ_CHECK(read_all(log, bytes, again, &length, &err) == TIDE_OK);
    FUZZ_CHECK(length == bytes && memcmp(log, again, bytes) == 0);
    log[change % bytes] ^= (uint8_t)(1 + change % 255);
    any_bytes(log, bytes - shorter % bytes);
    mem_free(log);
    mem_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_in in = {.at = data, .left = bytes};
    if (fuzz_number(&in, 1) % 2 == 0)
        any_bytes(in.at, in.left);
    else
        round_trip(&in);
    return 0;
}
