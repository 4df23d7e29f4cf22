/* SPDX-License-Identifier: Apache-2.0 */
/* A file that may be an image of the state, found in the directory and received from another member. */

#include <fcntl.h>
#include <xxhash.h>

#include "ckpt/base/mem.h"
#include "coordinator/disk/snapshot_file.h"
#include "coordinator/disk/snapshot_inner.h"
#include "tests/fuzz/fuzz.h"

#define CLUSTER "00112233445566aa"
#define INDEX 9u

enum flags { WITH_SUM = 1, WITH_SIZES = 2, WITH_WORDS = 4, IN_CHUNKS = 8, TWICE = 16 };

/* Make right what no fuzzer can guess. */
static void mend(char *image, size_t bytes, unsigned flags)
{
    struct snapshot_header header;
    if (bytes < sizeof header)
        return;
    memcpy(&header, image, sizeof header);
    if (flags & WITH_WORDS) {
        memcpy(header.magic, "TIDESNP\1", sizeof header.magic);
        memcpy(header.cluster, CLUSTER, sizeof header.cluster);
        header.format = SNAPSHOT_FORMAT;
        header.index = INDEX;
    }
    if (flags & WITH_SIZES) {
        uint64_t behind = bytes - sizeof header;
        header.config_bytes = (uint32_t)(header.config_bytes % (behind + 1));
        header.bytes = behind - header.config_bytes;
    }
    if ((flags & WITH_SUM) && snapshot_header_plausible(&header, bytes)) {
        const char *config = image + sizeof header;
        header.sum = XXH3_64bits_withSeed(config + header.config_bytes, header.bytes, snapshot_data_seed(&header, config));
    }
    memcpy(image, &header, sizeof header);
}

static enum tide_status load(const char *dir, const char *image, size_t bytes, struct snapshot *ret_snapshot)
{
    char path[DATA_FILE_MAX];
    struct err err = {0};
    struct snapshot_file file;
    snapshot_path(dir, INDEX, ".img", path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    FUZZ_CHECK(fd >= 0 && fsx_write_all(fd, image, bytes, path, NULL) == TIDE_OK);
    close(fd);
    enum tide_status status = snapshot_load(dir, CLUSTER, INDEX, ret_snapshot, &err);
    FUZZ_CHECK(status == TIDE_OK || ((status == TIDE_E_CORRUPT || status == TIDE_E_VERSION) && err.text[0] != '\0'));
    if (status == TIDE_OK) {
        FUZZ_CHECK(ret_snapshot->data[ret_snapshot->bytes] == '\0' &&
                   ret_snapshot->config[ret_snapshot->config_bytes] == '\0');
        FUZZ_CHECK(snapshot_file_open(dir, CLUSTER, INDEX, &file, NULL) == TIDE_OK);
        FUZZ_CHECK(file.bytes == bytes && file.digest == ret_snapshot->digest && file.term == ret_snapshot->term);
        snapshot_file_close(&file);
    }
    char cluster[TIDE_UID_CHARS + 1];
    struct snapshot alone = {0};
    enum tide_status any = snapshot_load_file(path, &alone, cluster, &err);
    FUZZ_CHECK(any == TIDE_OK || status != TIDE_OK);
    FUZZ_CHECK(status != TIDE_OK || (alone.digest == ret_snapshot->digest && strcmp(cluster, CLUSTER) == 0));
    snapshot_release(&alone);
    unlink(path);
    return status;
}

/* Sent as it is and announced as its header says, the image arrives if it can be loaded, and only then. */
static void receive(struct fuzz_in *in, const char *dir, const char *image, size_t bytes, unsigned flags,
                    enum tide_status loads)
{
    struct snapshot_header header = {0};
    struct snapshot_receive r;
    struct err err = {0};
    memcpy(&header, image, bytes < sizeof header ? bytes : sizeof header);
    enum tide_status status = snapshot_receive_begin(dir, CLUSTER, INDEX, header.term, bytes, header.sum, &r, &err);
    FUZZ_CHECK((status == TIDE_OK) == (bytes >= sizeof header));
    if (status != TIDE_OK)
        return;
    while (r.offset < bytes) {
        size_t n = flags & IN_CHUNKS ? 1 + fuzz_number(in, 1) : bytes;
        n = n < bytes - r.offset ? n : bytes - r.offset;
        FUZZ_CHECK(snapshot_receive_append(&r, r.offset, image + r.offset, n, NULL) == TIDE_OK);
        if ((flags & TWICE) && r.offset < bytes) {
            uint64_t was = r.offset;
            snapshot_receive_close(&r);
            FUZZ_CHECK(snapshot_receive_begin(dir, CLUSTER, INDEX, header.term, bytes, header.sum, &r, NULL) == TIDE_OK);
            FUZZ_CHECK(r.offset == was || r.offset == 0);
            flags &= ~(unsigned)TWICE;
        }
    }
    status = snapshot_receive_finish(&r, &err);
    FUZZ_CHECK((status == TIDE_OK) == (loads == TIDE_OK));
    struct snapshot snapshot;
    enum tide_status found = snapshot_load(dir, CLUSTER, INDEX, &snapshot, &err);
    FUZZ_CHECK(found == (status == TIDE_OK ? TIDE_OK : TIDE_E_NOT_FOUND));
    if (found == TIDE_OK) {
        FUZZ_CHECK(snapshot.digest == header.sum);
        snapshot_release(&snapshot);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_in in = {.at = data, .left = bytes};
    unsigned flags = (unsigned)fuzz_number(&in, 1);
    const char *dir = fuzz_dir();
    size_t n = in.left;
    char *image = mem_alloc(n + 1);
    if (n > 0)
        memcpy(image, in.at, n);
    mend(image, n, flags);
    struct snapshot snapshot = {0};
    enum tide_status loads = load(dir, image, n, &snapshot);
    snapshot_release(&snapshot);
    receive(&in, dir, image, n, flags, loads);
    mem_free(image);
    return 0;
}
