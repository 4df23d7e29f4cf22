/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_DISK_SNAPSHOT_INNER_H
#define COORDINATOR_DISK_SNAPSHOT_INNER_H

#include <tidemark/types.h>

#include "coordinator/disk/datadir.h"
#include "coordinator/disk/snapshot.h"

#define SNAPSHOT_MODE 0600

/* The file: this header, the configuration, the data. */
struct snapshot_header {
    char magic[8];
    uint32_t format;
    uint32_t config_bytes;
    uint64_t index, term;
    uint64_t bytes; /* of the data */
    char cluster[TIDE_UID_CHARS];
    uint64_t sum; /* XXH3 of all above, then of the configuration, then of the data: the image's digest */
};
_Static_assert(sizeof(struct snapshot_header) == 64, "the header is what is on the disk");

/* The seed that the sum of the data begins with. */
uint64_t snapshot_data_seed(const struct snapshot_header *header, const char *config);

/* What can be said of a file of `bytes` bytes from its header alone: is it ours, do the sizes add up? */
bool snapshot_header_plausible(const struct snapshot_header *header, uint64_t bytes);
/* The same and more in sentences. Errors: CORRUPT, VERSION. */
MUST_USE enum tide_status snapshot_header_check(const char *path, const struct snapshot_header *header, uint64_t index,
                                                const char *cluster, struct err *err);
enum tide_status snapshot_corrupt(const char *path, uint64_t bytes, struct err *err);

/* Open, and say how long it is. Errors: NOT_FOUND, IO. */
MUST_USE enum tide_status snapshot_open(const char *path, int *ret_fd, uint64_t *ret_bytes, struct err *err);
/* `bytes` from `offset`; fewer only where the file ends. */
MUST_USE enum tide_status snapshot_read_at(int fd, const char *path, uint64_t offset, char *to, size_t bytes,
                                           size_t *ret_read, struct err *err);
void snapshot_path(const char *dir, uint64_t index, const char *suffix, char to[DATA_FILE_MAX]);

#endif
