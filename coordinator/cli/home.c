/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/home.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "coordinator/cli/term.h"

#define STATE_MODE 0700
#define EPOCH_MODE 0600
#define EPOCH_BYTES_MAX 64u
#define EPOCH_PATH_MAX (TIDE_PATH_MAX + 64)

enum tide_status state_home(char *to, struct fault *fault)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    struct passwd *user = NULL;
    if ((xdg == NULL || xdg[0] != '/') && (home == NULL || home[0] != '/')) {
        user = getpwuid(getuid());
        home = user ? user->pw_dir : NULL;
    }
    int n;
    if (xdg != NULL && xdg[0] == '/')
        n = snprintf(to, TIDE_PATH_MAX + 1, "%s/tidemark", xdg);
    else if (home != NULL && home[0] == '/')
        n = snprintf(to, TIDE_PATH_MAX + 1, "%s/.local/state/tidemark", home);
    else
        return fault_set(fault, TIDE_E_IO, "set XDG_STATE_HOME to a directory of yours",
                         "there is no home directory for the state");
    if (n > TIDE_PATH_MAX - 64)
        return fault_set(fault, TIDE_E_LIMIT, "set XDG_STATE_HOME to a shorter path",
                         "the path of the state directory has %d bytes", n);
    return TIDE_OK;
}

/* ---- recoveries ---- */

static bool epoch_path(const char *cluster, char dir[TIDE_PATH_MAX + 1], char path[EPOCH_PATH_MAX])
{
    struct fault unused = {0};
    if (!cluster_uid_valid(cluster) || state_home(dir, &unused) != TIDE_OK)
        return false;
    snprintf(path, EPOCH_PATH_MAX, "%s/%s.epoch", dir, cluster);
    return true;
}

uint64_t epoch_met(const char *cluster)
{
    char dir[TIDE_PATH_MAX + 1], path[EPOCH_PATH_MAX], *text = NULL;
    size_t bytes = 0;
    uint64_t epoch = 0;
    struct err err = {0};
    if (!epoch_path(cluster, dir, path) || access(path, F_OK) != 0)
        return 0;
    enum tide_status status = fsx_read(path, EPOCH_BYTES_MAX, &text, &bytes, &err);
    if (status == TIDE_OK) {
        text[strcspn(text, "\n")] = '\0';
        status = epoch_parse(text, &epoch, &err);
        mem_free(text);
    }
    if (status != TIDE_OK)
        say_note("%s cannot be read, and with it whether cluster %s was recovered: %.200s", path, cluster, err.text);
    return status == TIDE_OK ? epoch : 0;
}

void epoch_meet(const char *cluster, uint64_t epoch)
{
    char dir[TIDE_PATH_MAX + 1], path[EPOCH_PATH_MAX], text[EPOCH_TEXT_MAX + 2];
    struct err err = {0};
    if (!epoch_path(cluster, dir, path))
        return;
    epoch_format(epoch, text);
    say_note("cluster %s was recovered, and is of epoch %s now; coordinators that were left behind are passed over", cluster,
             text);
    size_t n = strlen(text);
    text[n] = '\n';
    enum tide_status status = fsx_mkdirs(dir, STATE_MODE, &err);
    if (status == TIDE_OK)
        status = fsx_replace(path, text, n + 1, EPOCH_MODE, &err);
    if (status != TIDE_OK)
        say_note("that cannot be kept for the next time: %.200s", err.text);
}
