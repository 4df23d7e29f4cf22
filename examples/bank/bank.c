/* SPDX-License-Identifier: Apache-2.0 */

/* Messages that are on their way at a checkpoint, and a program that notices when one is lost or comes twice.
 *
 *     tidemark run -n 4 -- bank --transfers 20000
 *     tidemark run -n 4 -- bank --until FILE        until that file is there
 *
 * The branches have no common step: each works at its own pace, and tide_step tells when its ledger is whole. A checkpoint holds
 * each ledger as it was in some tide_step of its branch, and the transfers that were sent and not received in between; after
 * a restart those are received first. At the end the bank counts its money. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidemark/states.h>
#include <tidemark/tidemark.h>
#include <time.h>
#include <unistd.h>

#include "bank.h"

#define TRANSFERS_DEFAULT 20000
#define PADDING_DEFAULT 4096 /* words */
#define BUFFER_BYTES (1 << 20) /* for MPI_Bsend */

static void give_up(const struct bank *bank, const char *what, const char *detail)
{
    fprintf(stderr, "bank: rank %d: %s: %s\n", bank->rank, what, detail);
    MPI_Abort(MPI_COMM_WORLD, TIDE_EXIT_DO_NOT_RESTART);
    exit(TIDE_EXIT_DO_NOT_RESTART);
}

static bool number_option(const char *name, const char *text, struct options *options)
{
    char *end = NULL;
    unsigned long long n = strtoull(text, &end, 10);
    if (end == text || *end)
        return false;
    if (strcmp(name, "--transfers") == 0)
        options->transfers = n;
    else if (strcmp(name, "--padding") == 0)
        options->padding_max = n;
    else if (strcmp(name, "--seed") == 0)
        options->seed = n;
    else if (strcmp(name, "--pause-us") == 0)
        options->pause_us = n;
    else if (strcmp(name, "--pace") == 0)
        options->pace = n;
    else if (strcmp(name, "--tellers") == 0)
        options->tellers = (unsigned)n;
    else
        return false;
    return options->pace > 0 && options->tellers >= 1 && options->tellers <= TELLERS_MAX;
}

static bool options_parse(int argc, char **argv, struct options *options)
{
    *options = (struct options){
        .transfers = TRANSFERS_DEFAULT, .padding_max = PADDING_DEFAULT, .seed = 1, .pace = 2, .tellers = 1};
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--until") == 0) {
            options->until = argv[i + 1];
        } else if (i + 1 >= argc || !number_option(argv[i], argv[i + 1], options)) {
            fprintf(stderr,
                    "usage: bank [--transfers N | --until FILE] [--padding WORDS] [--seed N] [--pause-us N] [--pace N] "
                    "[--tellers 1..%d]\n",
                    TELLERS_MAX);
            return false;
        }
    }
    if (options->until)
        options->transfers = UINT64_MAX;
    return true;
}

/* ---- many tellers ---- */

/* Who closes the branch is not kept waiting by tellers that come and go. */
static void lock_init(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
}

static bool is_done(struct bank *bank)
{
    pthread_mutex_lock(&bank->lock);
    bool done = bank_is_done(bank);
    pthread_mutex_unlock(&bank->lock);
    return done;
}

/* Between two transfers the branch may be closed for a checkpoint. */
static void *teller_main(void *context)
{
    struct teller *teller = context;
    while (!is_done(teller->bank)) {
        pthread_rwlock_rdlock(&teller->bank->open);
        teller_work(teller);
        pthread_rwlock_unlock(&teller->bank->open);
    }
    return NULL;
}

/* ---- the branch ---- */

/* No teller is at work. */
static void look_for_end(struct options *options)
{
    if (options->until == NULL || access(options->until, F_OK) != 0)
        return;
    options->transfers = 0;
    options->until = NULL;
}

static bool all_sent(const struct bank *bank)
{
    bool all = true;
    for (unsigned i = 0; i < bank->options.tellers; i++)
        all = all && bank->ledger.made[i] >= bank->options.transfers;
    return all;
}

static void work(struct bank *bank, struct tide *tide, struct teller *teller)
{
    while (!is_done(bank)) {
        pthread_rwlock_wrlock(&bank->open);
        if (tide_step(tide, ++bank->ledger.step) != TIDE_OK)
            give_up(bank, "tide_step", tide_error_text(tide));
        look_for_end(&bank->options);
        if (all_sent(bank) && !bank->ledger.closed)
            teller_close(teller);
        pthread_rwlock_unlock(&bank->open);
        teller_work(teller);
        if (bank->options.pause_us > 0)
            usleep((useconds_t)(bank_mix(teller->how) % (2 * bank->options.pause_us)));
    }
}

static void work_together(struct bank *bank, struct tide *tide)
{
    struct teller tellers[TELLERS_MAX];
    pthread_t threads[TELLERS_MAX];
    for (unsigned i = 0; i < bank->options.tellers; i++) {
        if (!teller_init(&tellers[i], bank, i))
            give_up(bank, "no memory", "for the tellers' desks");
    }
    for (unsigned i = 1; i < bank->options.tellers; i++) {
        if (pthread_create(&threads[i], NULL, teller_main, &tellers[i]) != 0)
            give_up(bank, "pthread_create", "no thread for a teller");
    }
    work(bank, tide, &tellers[0]);
    for (unsigned i = 1; i < bank->options.tellers; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < bank->options.tellers; i++)
        teller_release(&tellers[i]);
}

/* Everything was received: each transfer once, and no money is lost. */
static bool audit(const struct bank *bank, uint64_t restored_step)
{
    const struct ledger *l = &bank->ledger;
    uint64_t mine[5] = {(uint64_t)l->balance, l->sent - l->received, l->sent_sum - l->received_sum, l->wrong, l->received}, all[5];
    MPI_Allreduce(mine, all, 5, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
    bool right = (int64_t)all[0] == FIRST_BALANCE * bank->size && all[1] == 0 && all[2] == 0 && all[3] == 0;
    if (bank->rank == 0)
        printf("bank %s: %d branches, from step %llu, %llu transfers, balance %lld of %lld, %lld lost or twice, %llu wrong\n",
               right ? "right" : "WRONG", bank->size, (unsigned long long)restored_step, (unsigned long long)all[4],
               (long long)all[0], (long long)(FIRST_BALANCE * bank->size), (long long)all[1], (unsigned long long)all[3]);
    return right;
}

int main(int argc, char **argv)
{
    static struct bank bank = {.lock = PTHREAD_MUTEX_INITIALIZER};
    static char buffer[BUFFER_BYTES];
    struct tide *tide = NULL;
    int level = 0, detached_bytes = 0;
    void *detached = NULL;
    if (!options_parse(argc, argv, &bank.options))
        return TIDE_EXIT_DO_NOT_RESTART;
    MPI_Init_thread(&argc, &argv, bank.options.tellers > 1 ? MPI_THREAD_MULTIPLE : MPI_THREAD_SINGLE, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &bank.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &bank.size);
    if (bank.size > BRANCHES_MAX)
        give_up(&bank, "too many branches", "64 at most");
    lock_init(&bank.open);
    MPI_Buffer_attach(buffer, sizeof buffer);
    srand((unsigned)(time(NULL) ^ getpid()));

    bank.ledger.balance = FIRST_BALANCE;
    for (unsigned i = 0; i < TELLERS_MAX; i++)
        bank.ledger.random[i] = bank_mix(bank.options.seed << 16 | (uint64_t)bank.rank << 4 | i);
    markets_open(&bank); /* before tide_restore, which brings messages for them */

    struct tide_options options = {.size = sizeof options, .cut = TIDE_CUT_FREE};
    if (tide_init(&tide, &options) != TIDE_OK)
        give_up(&bank, "tide_init", tide_error_text(NULL));
    struct tide_region region = {.name = LEDGER_REGION, .data = &bank.ledger, .bytes = sizeof bank.ledger};
    if (tide_register(tide, &region) != TIDE_OK)
        give_up(&bank, "tide_register", tide_error_text(tide));
    uint64_t step = 0;
    enum tide_status status = tide_restore(tide, &step);
    if (status != TIDE_OK && status != TIDE_E_NO_CHECKPOINT)
        give_up(&bank, "tide_restore", tide_error_text(tide));

    work_together(&bank, tide);
    tide_finalize(tide);
    MPI_Buffer_detach(&detached, &detached_bytes);
    bool right = audit(&bank, step);
    markets_close(&bank);
    MPI_Finalize();
    return right ? 0 : 1;
}
