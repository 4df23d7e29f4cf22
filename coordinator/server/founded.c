/* SPDX-License-Identifier: Apache-2.0 */
/* A member whose data directory is gone must not come back under its old name: it has voted and acknowledged, and would do
 * so again without knowing. Its identity directory therefore remembers that it has been in use. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/disk/datadir.h"
#include "coordinator/server/inner.h"

#define MARK "in-use"
#define MARK_BYTES_MAX (TIDE_PATH_MAX + 128)
#define MARK_MODE 0644

static void mark_path(const struct server_options *o, char to[DATA_FILE_MAX])
{
    datadir_file(o->identity_dir, MARK, to);
}

enum tide_status founded_check(const struct server_options *o, struct err *err)
{
    char path[DATA_FILE_MAX], format[DATA_FILE_MAX], *text = NULL;
    size_t bytes = 0;
    if (o->identity == NULL)
        return TIDE_OK;
    mark_path(o, path);
    datadir_file(o->data, "format", format);
    if (access(path, F_OK) != 0 || access(format, F_OK) == 0)
        return TIDE_OK;
    enum tide_status status = fsx_read(path, MARK_BYTES_MAX, &text, &bytes, err);
    if (status != TIDE_OK)
        return status;
    text[strcspn(text, "\n")] = '\0';
    uint64_t id = o->identity->identity.member;
    status =
        err_set(err, TIDE_E_CONFLICT,
                "member %" PRIu64 " has been in use (%.200s), but %s is empty: what it voted for and acknowledged is "
                "gone, and under the same id it could do so twice. Give it its data back; or \"tidemark cluster remove "
                "%" PRIu64 "\", then issue and add a member with a new id. Only if this cluster never worked: remove %s",
                id, text, o->data, id, path);
    mem_free(text);
    return status;
}

void founded_mark(const struct server_options *o)
{
    char path[DATA_FILE_MAX], line[MARK_BYTES_MAX];
    struct err err = {0};
    if (o->identity == NULL)
        return;
    mark_path(o, path);
    int n = snprintf(line, sizeof line, "cluster %s, data in %s\n", o->identity->identity.cluster, o->data);
    if (access(path, F_OK) != 0 && fsx_replace(path, line, (size_t)n, MARK_MODE, &err) != TIDE_OK)
        log_warn("it cannot be noted that this identity is in use, so that a lost data directory would not be noticed: %s",
                 err.text);
}
