/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cut/bank_check.h"

#include <stdio.h>
#include <string.h>

#include "ckpt/cut/channel.h"
#include "examples/bank/ledger.h"

struct sums {
    int64_t money;
    uint64_t sent, received, sum; /* sum: of sent ones, less received ones and those in logs */
    uint64_t messages, wrong;
};

static const struct slot_region *region_of(const struct slot *slot, const char *name)
{
    for (uint32_t i = 0; i < slot->header->region_count; i++) {
        if (strcmp(slot->regions[i].name, name) == 0)
            return &slot->regions[i];
    }
    return NULL;
}

static void add_message(struct sums *sums, const struct cut_entry *entry, const uint64_t *words)
{
    struct transfer transfer;
    if (entry->tag == TAG_CLOSING)
        return;
    memcpy(&transfer, words, sizeof transfer);
    sums->messages++;
    sums->money += transfer.amount;
    sums->sum -= bank_mix(transfer.id);
    if (entry->bytes != sizeof transfer + transfer.padding * sizeof(uint64_t)) {
        sums->wrong++;
        return;
    }
    for (uint64_t i = 0; i < transfer.padding; i++)
        sums->wrong += words[TRANSFER_WORDS + i] != bank_mix(transfer.id + i);
}

static bool add_log(struct sums *sums, const void *log, uint64_t bytes, char *why, size_t why_size)
{
    struct cut_channel channel;
    struct cut_entry entry;
    const void *payload = NULL;
    struct err err = {.text = ""};
    enum tide_status status = cut_channel_open(&channel, log, (size_t)bytes, &err);
    while (status == TIDE_OK && (status = cut_channel_next(&channel, &entry, &payload, &err)) == TIDE_OK && payload)
        add_message(sums, &entry, payload);
    if (status != TIDE_OK)
        snprintf(why, why_size, "a channel log cannot be read: %s", err.text);
    return status == TIDE_OK;
}

static bool add_rank(struct sums *sums, const struct host *host, uint32_t rank, uint64_t cut, const struct slot *slot, char *why,
                     size_t why_size)
{
    struct err err = {.text = ""};
    struct ledger ledger;
    if (slot_check(slot, HOST_JOB_UID, cut, rank, &err) != TIDE_OK) {
        snprintf(why, why_size, "rank %u of %u: %s", rank, host->ranks, err.text);
        return false;
    }
    const struct slot_region *region = region_of(slot, LEDGER_REGION), *log = region_of(slot, CUT_CHANNEL_REGION);
    if (region == NULL || region->bytes != sizeof ledger) {
        snprintf(why, why_size, "rank %u has no ledger", rank);
        return false;
    }
    memcpy(&ledger, slot->data + region->offset, sizeof ledger);
    sums->money += ledger.balance;
    sums->sent += ledger.sent;
    sums->received += ledger.received;
    sums->sum += ledger.sent_sum - ledger.received_sum;
    sums->wrong += ledger.wrong;
    return log == NULL || log->bytes == 0 || add_log(sums, slot->data + log->offset, log->bytes, why, why_size);
}

bool bank_check(const struct host *host, uint64_t cut, uint32_t slot_number, uint64_t *ret_messages, char *why, size_t why_size)
{
    struct sums sums = {.money = 0};
    bool right = true;
    for (uint32_t r = 0; right && r < host->ranks; r++) {
        char path[256];
        struct slot slot = {.header = NULL};
        struct err err = {.text = ""};
        host_slot_path(host, r, slot_number, path, sizeof path);
        right = slot_map(path, 0, &slot, &err) == TIDE_OK;
        if (right)
            right = add_rank(&sums, host, r, cut, &slot, why, why_size);
        else
            snprintf(why, why_size, "%s", err.text);
        slot_unmap(&slot);
    }
    *ret_messages = sums.messages;
    if (!right)
        return false;
    right = sums.money == FIRST_BALANCE * (int64_t)host->ranks && sums.sent == sums.received + sums.messages && sums.sum == 0 &&
            sums.wrong == 0;
    if (!right)
        snprintf(why, why_size, "balance %lld of %lld; %llu sent, %llu received, %llu in channel logs; sums %s; %llu wrong",
                 (long long)sums.money, (long long)FIRST_BALANCE * host->ranks, (unsigned long long)sums.sent,
                 (unsigned long long)sums.received, (unsigned long long)sums.messages, sums.sum ? "differ" : "agree",
                 (unsigned long long)sums.wrong);
    return right;
}
