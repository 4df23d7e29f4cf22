/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "bank.h"

#define TAGS 6
#define SMALL_WORDS 32       /* most transfers have no more padding */
#define LARGE_ONE_IN 8       /* … but one in so many may have any */
#define BLOCKING_WORDS 200   /* MPI_Send is used only for what MPI takes at once */
#define HOW_SEND 7
#define HOW_RECEIVE 6

static uint64_t draw(uint64_t *random)
{
    *random += 1;
    return bank_mix(*random);
}

/* ---- markets ---- */

static void market_add(struct bank *bank, MPI_Comm comm)
{
    struct market *market = &bank->markets[bank->market_count++];
    int inter = 0, all[BRANCHES_MAX];
    MPI_Group group, world;
    market->comm = comm;
    MPI_Comm_test_inter(comm, &inter);
    if (inter)
        MPI_Comm_remote_group(comm, &group);
    else
        MPI_Comm_group(comm, &group);
    MPI_Group_size(group, &market->size);
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    for (int i = 0; i < market->size; i++)
        all[i] = i;
    MPI_Group_translate_ranks(group, market->size, all, world, market->branch);
    MPI_Group_free(&group);
    MPI_Group_free(&world);
}

/* The same communicators in the same order in every generation: that is how messages of a checkpoint find theirs. */
void markets_open(struct bank *bank)
{
    MPI_Comm all, side, across, ring;
    int period = 1;
    market_add(bank, MPI_COMM_WORLD);
    MPI_Comm_dup(MPI_COMM_WORLD, &all);
    MPI_Comm_set_name(all, "all");
    market_add(bank, all);
    MPI_Comm_split(MPI_COMM_WORLD, bank->rank % 2, -bank->rank, &side);
    MPI_Comm_set_name(side, "side");
    market_add(bank, side);
    MPI_Cart_create(all, 1, &bank->size, &period, 0, &ring);
    market_add(bank, ring);
    if (bank->size < 2)
        return;
    MPI_Intercomm_create(side, 0, MPI_COMM_WORLD, bank->rank % 2 ? (bank->size - 1) / 2 * 2 : bank->size / 2 * 2 - 1, 1, &across);
    MPI_Comm_set_name(across, "across");
    market_add(bank, across);
}

void markets_close(struct bank *bank)
{
    for (int i = bank->market_count; --i > 0;)
        MPI_Comm_free(&bank->markets[i].comm);
}

bool teller_init(struct teller *teller, struct bank *bank, unsigned number)
{
    size_t words = TRANSFER_WORDS + (size_t)bank->options.padding_max;
    *teller = (struct teller){.bank = bank, .number = number, .how = bank_mix((uint64_t)rand() << 8 | number)};
    teller->out = calloc(words, sizeof(uint64_t));
    teller->in = calloc(words, sizeof(uint64_t));
    teller->strided = calloc(2 * words, sizeof(uint64_t));
    return teller->out && teller->in && teller->strided;
}

void teller_release(struct teller *teller)
{
    free(teller->out);
    free(teller->in);
    free(teller->strided);
}

/* ---- receiving ---- */

static void book_in(struct teller *teller, const MPI_Status *status, const struct market *market)
{
    struct ledger *ledger = &teller->bank->ledger;
    const struct transfer *transfer = (const struct transfer *)(void *)teller->in;
    int from = market->branch[status->MPI_SOURCE], words = 0;
    MPI_Get_count(status, MPI_UINT64_T, &words);
    bool right = (uint64_t)words == TRANSFER_WORDS + transfer->padding;
    for (uint64_t i = 0; right && i < transfer->padding; i++)
        right = teller->in[TRANSFER_WORDS + i] == bank_mix(transfer->id + i);
    pthread_mutex_lock(&teller->bank->lock);
    ledger->wrong += !right;
    if (status->MPI_TAG == TAG_CLOSING) {
        ledger->announced[from] = transfer->id;
        ledger->closings++;
    } else {
        ledger->balance += transfer->amount;
        ledger->received++;
        ledger->received_from[from]++;
        ledger->received_sum += bank_mix(transfer->id);
    }
    pthread_mutex_unlock(&teller->bank->lock);
}

/* Into every second word, as a matrix's column would be. */
static void receive_strided(struct teller *teller, int words, MPI_Message *message, MPI_Status *status)
{
    MPI_Datatype every_second;
    MPI_Request request;
    MPI_Type_vector(words, 1, 2, MPI_UINT64_T, &every_second);
    MPI_Type_commit(&every_second);
    MPI_Imrecv(teller->strided, 1, every_second, message, &request);
    MPI_Type_free(&every_second);
    MPI_Wait(&request, status);
    for (int i = 0; i < words; i++)
        teller->in[i] = teller->strided[2 * i];
}

/* A transfer that a probe has seen. Other tellers may be faster, so it is one that the probe keeps for us. */
static bool receive_matched(struct teller *teller, struct market *market, int from, int tag, bool strided)
{
    int found = 0, words = 0;
    MPI_Message message;
    MPI_Status status;
    MPI_Improbe(from, tag, market->comm, &found, &message, &status);
    if (!found)
        return false;
    MPI_Get_count(&status, MPI_UINT64_T, &words);
    if (strided)
        receive_strided(teller, words, &message, &status);
    else
        MPI_Mrecv(teller->in, words, MPI_UINT64_T, &message, &status);
    book_in(teller, &status, market);
    return true;
}

/* One that a probe has seen, of one teller alone: whatever receives it, receives it. */
static bool receive_probed(struct teller *teller, struct market *market, int from, int tag, uint64_t how)
{
    const int room = (int)(TRANSFER_WORDS + teller->bank->options.padding_max);
    int found = 0, done = 0;
    MPI_Request request;
    MPI_Status status;
    MPI_Iprobe(from, tag, market->comm, &found, &status);
    if (!found)
        return false;
    from = how % 2 ? from : status.MPI_SOURCE;
    tag = how % 2 ? tag : status.MPI_TAG;
    switch (how / 2 % 4) {
    case 0: MPI_Recv(teller->in, room, MPI_UINT64_T, from, tag, market->comm, &status); break;
    case 1:
        MPI_Irecv(teller->in, room, MPI_UINT64_T, from, tag, market->comm, &request);
        MPI_Wait(&request, &status);
        break;
    case 2:
        MPI_Recv_init(teller->in, room, MPI_UINT64_T, from, tag, market->comm, &request);
        MPI_Start(&request);
        while (!done)
            MPI_Test(&request, &done, &status);
        MPI_Request_free(&request);
        break;
    default:
        MPI_Irecv(teller->in, room, MPI_UINT64_T, from, tag, market->comm, &request);
        MPI_Waitall(1, &request, &status);
        break;
    }
    book_in(teller, &status, market);
    return true;
}

/* Look once at each market, each time in another way. */
static void receive_some(struct teller *teller)
{
    const struct bank *bank = teller->bank;
    for (int i = 0; i < bank->market_count; i++) {
        struct market *market = &teller->bank->markets[i];
        uint64_t how = draw(&teller->how);
        int from = how >> 8 & 1 ? MPI_ANY_SOURCE : (int)((how >> 16) % (uint64_t)market->size);
        int tag = how >> 9 & 1 ? MPI_ANY_TAG : (int)((how >> 32) % TAGS);
        if (how % 3 == 0 || bank->options.tellers > 1)
            receive_matched(teller, market, from, tag, how >> 10 & 1);
        else
            receive_probed(teller, market, from, tag, how >> 11);
    }
}

/* ---- sending ---- */

/* Whoever waits until it is sent receives meanwhile: all may be sending to each other. */
static void wait_sent(struct teller *teller, MPI_Request *request, uint64_t how)
{
    MPI_Request two[2] = {MPI_REQUEST_NULL, *request};
    int done = 0, index = 0, count = 0, indices[2];
    while (!done) {
        switch (how % 4) {
        case 0: MPI_Test(request, &done, MPI_STATUS_IGNORE); break;
        case 1: MPI_Testany(2, two, &index, &done, MPI_STATUS_IGNORE); break;
        case 2: MPI_Testall(2, two, &done, MPI_STATUSES_IGNORE); break;
        default:
            MPI_Testsome(2, two, &count, indices, MPI_STATUSES_IGNORE);
            done = count > 0;
            break;
        }
        if (!done)
            receive_some(teller);
    }
    *request = how % 4 == 0 ? *request : two[1];
}

static void send_strided(struct teller *teller, int words, int to, int tag, struct market *market, MPI_Request *request)
{
    MPI_Datatype every_second;
    for (int i = 0; i < words; i++)
        teller->strided[2 * i] = teller->out[i];
    MPI_Type_vector(words, 1, 2, MPI_UINT64_T, &every_second);
    MPI_Type_commit(&every_second);
    MPI_Isend(teller->strided, 1, every_second, to, tag, market->comm, request);
    MPI_Type_free(&every_second);
}

static void send_out(struct teller *teller, int words, int to, int tag, struct market *market)
{
    uint64_t how = draw(&teller->how);
    MPI_Request request = MPI_REQUEST_NULL;
    bool self = market->branch[to] == teller->bank->rank;
    switch (how % HOW_SEND) {
    case 0: MPI_Isend(teller->out, words, MPI_UINT64_T, to, tag, market->comm, &request); break;
    case 1: MPI_Issend(teller->out, words, MPI_UINT64_T, to, tag, market->comm, &request); break;
    case 2:
        MPI_Send_init(teller->out, words, MPI_UINT64_T, to, tag, market->comm, &request);
        MPI_Start(&request);
        wait_sent(teller, &request, how >> 8);
        MPI_Request_free(&request);
        return;
    case 3:
        if (words < BLOCKING_WORDS && !self) {
            MPI_Send(teller->out, words, MPI_UINT64_T, to, tag, market->comm);
            return;
        }
        MPI_Isend(teller->out, words, MPI_UINT64_T, to, tag, market->comm, &request);
        break;
    case 4:
        if (words < BLOCKING_WORDS && teller->bank->options.tellers == 1) {
            MPI_Bsend(teller->out, words, MPI_UINT64_T, to, tag, market->comm);
            return;
        }
        MPI_Isend(teller->out, words, MPI_UINT64_T, to, tag, market->comm, &request);
        break;
    default:
        /* Receiving uses `strided` too, so this one is complete before anything is received. */
        if (words < BLOCKING_WORDS && !self) {
            send_strided(teller, words, to, tag, market, &request);
            MPI_Wait(&request, MPI_STATUS_IGNORE);
            return;
        }
        MPI_Isend(teller->out, words, MPI_UINT64_T, to, tag, market->comm, &request);
        break;
    }
    wait_sent(teller, &request, how >> 8);
}

static void transfer_out(struct teller *teller, uint64_t *random)
{
    struct bank *bank = teller->bank;
    struct ledger *ledger = &bank->ledger;
    struct market *market = &bank->markets[draw(random) % (uint64_t)bank->market_count];
    struct transfer *transfer = (struct transfer *)(void *)teller->out;
    int to = (int)(draw(random) % (uint64_t)market->size);
    int tag = (int)(draw(random) % TAGS);
    uint64_t size = draw(random), most = size % LARGE_ONE_IN ? SMALL_WORDS : bank->options.padding_max;
    pthread_mutex_lock(&bank->lock);
    *transfer = (struct transfer){.amount = (int64_t)(draw(random) % 1000),
                                  .id = (uint64_t)bank->rank << 40 | (uint64_t)teller->number << 36 | ledger->made[teller->number],
                                  .padding = (size >> 8) % (most + 1)};
    if (transfer->padding > bank->options.padding_max)
        transfer->padding = bank->options.padding_max;
    ledger->balance -= transfer->amount;
    ledger->made[teller->number]++;
    ledger->sent++;
    ledger->sent_to[market->branch[to]]++;
    ledger->sent_sum += bank_mix(transfer->id);
    pthread_mutex_unlock(&bank->lock);
    for (uint64_t i = 0; i < transfer->padding; i++)
        teller->out[TRANSFER_WORDS + i] = bank_mix(transfer->id + i);
    send_out(teller, (int)(TRANSFER_WORDS + transfer->padding), to, tag, market);
}

void teller_work(struct teller *teller)
{
    struct bank *bank = teller->bank;
    uint64_t random = bank->ledger.random[teller->number];
    bool more = bank->ledger.made[teller->number] < bank->options.transfers;
    if (more)
        transfer_out(teller, &random);
    bank->ledger.random[teller->number] = random;
    if (!more || draw(&teller->how) % bank->options.pace == 0)
        receive_some(teller);
}

void teller_close(struct teller *teller)
{
    struct bank *bank = teller->bank;
    for (int to = 0; to < bank->size; to++) {
        struct transfer closing = {.id = bank->ledger.sent_to[to]};
        MPI_Request request;
        MPI_Isend(&closing, (int)TRANSFER_WORDS, MPI_UINT64_T, to, TAG_CLOSING, MPI_COMM_WORLD, &request);
        wait_sent(teller, &request, 0);
    }
    bank->ledger.closed = 1;
}

bool bank_is_done(struct bank *bank)
{
    const struct ledger *ledger = &bank->ledger;
    bool done = ledger->closed && ledger->closings == (uint32_t)bank->size;
    for (int i = 0; done && i < bank->size; i++)
        done = ledger->received_from[i] == ledger->announced[i];
    return done;
}
