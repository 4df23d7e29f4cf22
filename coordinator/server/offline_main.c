/* SPDX-License-Identifier: Apache-2.0 */
/* tidemarkd recover, tidemarkd restore: the words. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/offline.h"

enum { EXIT_OK = 0, EXIT_ERROR = 1, EXIT_USAGE = 2 };

#define ANSWER_MAX 64

struct arguments {
    const char *data, *from, *identity;
    bool yes, help;
};

static const struct option options[] = {
    {"data", required_argument, NULL, 'd'},     {"from", required_argument, NULL, 'f'},
    {"identity", required_argument, NULL, 'i'}, {"yes-lose-what-others-had", no_argument, NULL, 'y'},
    {"help", no_argument, NULL, 'h'},           {NULL, 0, NULL, 0},
};

static int usage(const char *verb, const char *what)
{
    fprintf(stderr, "tidemarkd %s: %s\nTry: tidemarkd %s --help\n", verb, what, verb);
    return EXIT_USAGE;
}

static int parse(int argc, char **argv, struct arguments *ret_arguments)
{
    optind = 2;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'd')
            ret_arguments->data = optarg;
        else if (option == 'f')
            ret_arguments->from = optarg;
        else if (option == 'i')
            ret_arguments->identity = optarg;
        else if (option == 'y')
            ret_arguments->yes = true;
        else if (option == 'h')
            ret_arguments->help = true;
        else
            return usage(argv[1], "see above");
    }
    return optind < argc ? usage(argv[1], "there is a word too many") : EXIT_OK;
}

static int failed(const struct err *err)
{
    fprintf(stderr, "tidemarkd: %s\n", err->text);
    return EXIT_ERROR;
}

/* ---- recover ---- */

static const char recover_help[] =
    "usage: tidemarkd recover --data DIR [--yes-lose-what-others-had]\n"
    "\n"
    "For a group that has lost a majority of its members for good: makes the member whose data directory this is the\n"
    "only one of its group, with everything it has. Its tidemarkd must not run. Choose the member whose log reaches\n"
    "furthest; this command says how far it reaches before it asks.\n"
    "\n"
    "  --data DIR                    of the member that is to go on\n"
    "  --yes-lose-what-others-had    do not ask\n"
    "\n"
    "What only the lost members had is lost, even if it was acknowledged. The group gets a new recovery epoch: whoever "
    "knows\n"
    "of it, members, agents and tidemark, follows no member that was left behind. Those must not be started again with\n"
    "their data: remove it, and add them anew with tidemark cluster issue member and tidemark cluster add.\n";

static void print_view(const char *data, const struct recovery_view *view)
{
    printf("%s is that of member %" PRIu64 " of cluster %s.\n", data, view->member, view->cluster);
    printf("The last entry it has is %" PRIu64 ", of term %" PRIu64 ". The group it knows of:\n", view->index, view->term);
    for (size_t i = 0; i < view->config.count; i++)
        printf("  member %" PRIu64 "%s at %s%s\n", view->config.members[i].id,
               view->config.members[i].voter ? "" : " (learner)", view->config.members[i].peer,
               view->config.members[i].id == view->member ? "  <- goes on alone" : "");
    printf("Lost is what the others had beyond entry %" PRIu64
           ", acknowledged or not; what this member had and the group had not\n"
           "yet agreed on is done. The others must not be started again with the data they have.\n",
           view->index);
}

/* The uid of the cluster, typed: nobody does that by accident, or to the wrong one. */
static bool confirmed(const struct recovery_view *view)
{
    char answer[ANSWER_MAX];
    printf("Type the id of the cluster to go on: ");
    fflush(stdout);
    if (fgets(answer, sizeof answer, stdin) == NULL)
        return false;
    answer[strcspn(answer, "\n")] = '\0';
    return strcmp(answer, view->cluster) == 0;
}

int recover_main(int argc, char **argv)
{
    struct arguments a = {0};
    struct recovery_view view;
    char epoch[EPOCH_TEXT_MAX + 1];
    uint64_t now = 0;
    struct err err = {0};
    int status = parse(argc, argv, &a);
    if (status != EXIT_OK)
        return status;
    if (a.help) {
        fputs(recover_help, stdout);
        return EXIT_OK;
    }
    if (a.data == NULL || a.from != NULL || a.identity != NULL)
        return usage("recover", "it takes --data DIR");
    if (recover_look(a.data, &view, &err) != TIDE_OK)
        return failed(&err);
    print_view(a.data, &view);
    if (!a.yes && !confirmed(&view)) {
        fprintf(stderr, "tidemarkd: that is not the id of the cluster; nothing was changed\n");
        return EXIT_ERROR;
    }
    if (recover_alone(a.data, &now, &err) != TIDE_OK)
        return failed(&err);
    epoch_format(now, epoch);
    printf(
        "Done; the group is of epoch %s now. See to it that no tidemarkd of the others starts by itself when their hosts "
        "come\n"
        "back (systemctl disable): where they do not reach this member they could go on from before, and whatever has not\n"
        "heard of the new epoch would follow them. Then start this one: it leads a group of one.\n",
        epoch);
    return EXIT_OK;
}

/* ---- restore ---- */

static const char restore_help[] =
    "usage: tidemarkd restore --data DIR --from FILE [--identity DIR]\n"
    "\n"
    "Makes a new data directory from a backup (tidemark cluster backup): jobs, nodes, checkpoints and tokens are as they\n"
    "were then, in a new cluster. Nodes must be told of it: their agents get its identity and register.\n"
    "\n"
    "  --data DIR        to be made; empty or not there\n"
    "  --from FILE       the backup\n"
    "  --identity DIR    the member of the new cluster this is, from tidemark cluster init. Do the same, with the same\n"
    "                    file, for every member before any of them is started; each prints the same digest\n"
    "\n"
    "Without an identity it is a cluster of one, for tidemarkd without --identity.\n";

int restore_main(int argc, char **argv)
{
    struct arguments a = {0};
    struct restored_view view;
    struct idir idir = {0};
    struct err err = {0};
    int status = parse(argc, argv, &a);
    if (status != EXIT_OK)
        return status;
    if (a.help) {
        fputs(restore_help, stdout);
        return EXIT_OK;
    }
    if (a.data == NULL || a.from == NULL || a.yes)
        return usage("restore", "it takes --data DIR and --from FILE");
    if (a.identity != NULL && idir_load(a.identity, &idir, &err) != TIDE_OK)
        return failed(&err);
    if (a.identity != NULL && idir.identity.member == 0) {
        idir_release(&idir);
        return usage("restore", "--identity must be that of a member");
    }
    enum tide_status done = restore_backup(a.data, a.from, a.identity ? &idir.identity : NULL, &view, &err);
    if (a.identity != NULL)
        idir_release(&idir);
    if (done != TIDE_OK)
        return failed(&err);
    printf("%s: member %" PRIu64 " of cluster %s, with the state of cluster %s at entry %" PRIu64 "; digest %016" PRIx64
           "\n",
           a.data, view.member, view.cluster, view.from_cluster, view.index, view.digest);
    return EXIT_OK;
}
