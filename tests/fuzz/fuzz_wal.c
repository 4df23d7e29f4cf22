/* SPDX-License-Identifier: Apache-2.0 */
/* A directory with segments that are nearly right: checksums and chains hold unless the input says otherwise. */

#include <fcntl.h>

#include "ckpt/base/mem.h"
#include "coordinator/disk/datadir.h"
#include "coordinator/disk/wal.h"
#include "tests/fuzz/fuzz.h"

#define CLUSTER "00112233445566aa"
#define SEGMENTS_MAX 4u
#define FILE_BYTES 4096u

enum segment_flags {
    OTHER_FIRST = 1,
    OTHER_SEED = 2,
    OTHER_LENGTH = 4,
    BAD_HEADER = 8,
    GARBAGE = 16,
    SHORT_FILE = 32,
};

enum record_flags {
    OTHER_INDEX = 1,
    OTHER_PREV = 2,
    OTHER_SYNCED = 4,
    BAD_BYTE = 8,
    HOLE = 16,
    OTHER_TERM = 32,
    END = 64,
};

struct made {
    char bytes[FILE_BYTES];
    uint64_t first, at;
};

/* What the next record should say; whether all so far is as tidemarkd writes it. */
struct chain {
    uint64_t index, term, sum;
    bool clean;
};

static void add_record(struct fuzz_in *in, struct made *file, struct chain *chain, unsigned flags)
{
    size_t n;
    uint64_t length = fuzz_number(in, 1);
    const uint8_t *payload = fuzz_take(in, length, &n);
    uint64_t hole = flags & HOLE ? 8 * fuzz_number(in, 1) : 0;
    if (file->at + hole + record_room(n) > FILE_BYTES)
        return;
    file->at += hole;
    chain->term += flags & 128 ? 1 : 0;
    struct record_header header = {.type = (uint16_t)(flags & 3), .bytes = (uint32_t)n, .index = chain->index};
    header.index = flags & OTHER_INDEX ? fuzz_number(in, 8) : chain->index;
    header.term = flags & OTHER_TERM ? fuzz_number(in, 8) : chain->term;
    header.prev = flags & OTHER_PREV ? fuzz_number(in, 8) : chain->sum;
    header.synced = flags & OTHER_SYNCED ? fuzz_number(in, 8) : header.index - 1;
    chain->sum = record_write(file->bytes + file->at, &header, payload);
    if (flags & BAD_BYTE)
        file->bytes[file->at + fuzz_number(in, 2) % record_room(n)] ^= (char)fuzz_number(in, 1);
    file->at += record_room(n);
    chain->index++;
    chain->clean = chain->clean && (flags & (OTHER_INDEX | OTHER_TERM | OTHER_PREV | OTHER_SYNCED | BAD_BYTE | HOLE)) == 0;
}

/* Returns how long the file is to be. */
static uint64_t make_segment(struct fuzz_in *in, struct made *file, struct chain *chain)
{
    unsigned flags = (unsigned)fuzz_number(in, 1);
    struct segment_header header;
    *file = (struct made){.at = sizeof header};
    file->first = flags & OTHER_FIRST ? fuzz_number(in, 1) : chain->index;
    chain->index = file->first;
    if (flags & OTHER_SEED)
        chain->sum = fuzz_number(in, 8);
    segment_header_fill(&header, CLUSTER, file->first, chain->sum, flags & OTHER_LENGTH ? fuzz_number(in, 2) : FILE_BYTES);
    memcpy(file->bytes, &header, sizeof header);
    if (flags & BAD_HEADER)
        file->bytes[fuzz_number(in, 1) % sizeof header] ^= (char)fuzz_number(in, 1);
    for (unsigned record = 0; in->left > 0 && !(record & END);) {
        record = (unsigned)fuzz_number(in, 1);
        if (!(record & END))
            add_record(in, file, chain, record);
    }
    if (flags & GARBAGE) {
        size_t n;
        const uint8_t *from = fuzz_take(in, FILE_BYTES - file->at, &n);
        memcpy(file->bytes + file->at, from, n);
    }
    chain->clean = chain->clean && (flags & ~(unsigned)(64 | 128)) == 0;
    return flags & SHORT_FILE ? fuzz_number(in, 2) % (FILE_BYTES + 1) : FILE_BYTES;
}

static void write_file(const char *dir, uint64_t number, const char *data, size_t bytes)
{
    char path[DATA_FILE_MAX];
    datadir_numbered(dir, "log-", number, ".wal", path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    FUZZ_CHECK(fd >= 0 && fsx_write_all(fd, data, bytes, path, NULL) == TIDE_OK);
    close(fd);
}

static void scan_alone(const struct made *file, uint64_t bytes)
{
    /* Exactly as long as the file: what reads behind it is found. */
    char *data = mem_alloc(bytes > 0 ? bytes : 1);
    memcpy(data, file->bytes, bytes);
    for (int last = 0; last < 2; last++) {
        struct segment_scan scan;
        segment_scan(data, bytes, file->first, CLUSTER, last, &scan);
        FUZZ_CHECK(scan.count == 0 || (scan.offsets[0] == sizeof(struct segment_header) && scan.end <= bytes));
        for (size_t i = 1; i < scan.count; i++)
            FUZZ_CHECK(scan.offsets[i] > scan.offsets[i - 1] && scan.terms[i] >= scan.terms[i - 1]);
        FUZZ_CHECK((scan.verdict == SEGMENT_WHOLE) == (scan.why[0] == '\0'));
        FUZZ_CHECK(last || scan.verdict != SEGMENT_TORN);
        segment_scan_release(&scan);
    }
    mem_free(data);
}

static enum tide_status count_one(void *arg, const struct wal_entry *entry, struct err *err)
{
    (void)err;
    uint64_t *next = arg;
    FUZZ_CHECK(entry->index == *next);
    ++*next;
    return TIDE_OK;
}

/* What could be opened can be read, added to, and opened again. */
static void use(const char *dir, struct wal *wal, uint64_t floor, uint64_t floor_term)
{
    struct wal_options options = {.segment_bytes = FILE_BYTES};
    uint64_t first = wal_first(wal), last = wal_last(wal), next = first;
    FUZZ_CHECK(first <= floor && last + 1 >= floor && wal_synced(wal) == last);
    FUZZ_CHECK(wal_read(wal, first, last, count_one, &next, NULL) == TIDE_OK && next == last + 1);
    struct wal_entry entry = {.index = last + 1, .term = UINT64_MAX, .data = "more", .bytes = 4};
    FUZZ_CHECK(wal_append(wal, &entry, 1, NULL) == TIDE_OK && wal_sync(wal, NULL) == TIDE_OK);
    wal_close(wal);
    FUZZ_CHECK(wal_open(dir, CLUSTER, &options, false, floor, floor_term, &wal, NULL) == TIDE_OK);
    FUZZ_CHECK(wal_first(wal) == first && wal_last(wal) == last + 1 && wal_term(wal, last + 1) == UINT64_MAX);
    if (last > first)
        FUZZ_CHECK(wal_truncate_from(wal, first + (last - first) / 2, NULL) == TIDE_OK);
    wal_close(wal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_in in = {.at = data, .left = bytes};
    const char *dir = fuzz_dir();
    struct chain chain = {.index = 1, .term = 1, .sum = 77, .clean = true};
    struct wal_options options = {.segment_bytes = FILE_BYTES};
    uint64_t floor = 1 + fuzz_number(&in, 1), floor_term = floor > 1 ? fuzz_number(&in, 1) : 0;
    unsigned count = 1 + (unsigned)fuzz_number(&in, 1) % SEGMENTS_MAX;
    for (unsigned i = 0; i < count; i++) {
        struct made file;
        uint64_t length = make_segment(&in, &file, &chain);
        scan_alone(&file, length);
        write_file(dir, file.first, file.bytes, length);
    }
    struct wal *wal = NULL;
    struct err err = {0};
    enum tide_status status = wal_open(dir, CLUSTER, &options, false, floor, floor_term, &wal, &err);
    FUZZ_CHECK(status == TIDE_OK || (status == TIDE_E_CORRUPT && err.text[0] != '\0' && wal == NULL));
    if (chain.clean && floor == 1)
        FUZZ_CHECK(status == TIDE_OK && wal_first(wal) == 1 && wal_last(wal) == chain.index - 1);
    if (status == TIDE_OK)
        use(dir, wal, floor, floor_term);
    return 0;
}
