/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/team.h"
#include "ckpt/stage/arena.h"

#define HASH_THREADS 4u /* beside ranks that compute: a quarter of the time, not of the machine */
#define HASH_SHARE 16u  /* chunks that one thread takes at a time */
#define READ_BYTES ((size_t)256 << 10) /* at a time: hashed while it lies in the processor's own cache */

/* A .sum file: this, then chunk_count digests. The root is that of the whole file with the root itself zero. */
struct sum_file {
    uint64_t magic;
    uint64_t cut;
    uint64_t chunk_count;
    struct digest table;
    struct digest root;
};

void slot_sum_release(struct slot_sum *sum)
{
    mem_free(sum->chunks);
    *sum = (struct slot_sum){0};
}

static size_t file_bytes(uint64_t chunk_count)
{
    return sizeof(struct sum_file) + (size_t)chunk_count * sizeof(struct digest);
}

/* The .sum file's bytes, root included; NULL without memory. */
static struct sum_file *image_of(const struct slot_sum *sum)
{
    struct sum_file *image = mem_try_alloc(file_bytes(sum->chunk_count));
    if (image == NULL)
        return NULL;
    image->magic = SLOT_SUM_MAGIC;
    image->cut = sum->cut;
    image->chunk_count = sum->chunk_count;
    image->table = sum->table;
    if (sum->chunk_count > 0)
        memcpy(image + 1, sum->chunks, (size_t)sum->chunk_count * sizeof(struct digest));
    image->root = digest_of(image, file_bytes(sum->chunk_count));
    return image;
}

/* ---- computing ---- */

/* Everything that says what the data is. Copied field by field: padding in shared memory is anything. */
static struct digest table_digest(const struct slot_header *h, const struct slot_region *regions)
{
    struct {
        struct slot_header header;
        struct digest regions;
    } all;
    memset(&all, 0, sizeof all);
    all.header.magic = SLOT_MAGIC;
    all.header.state = SLOT_RECORDED;
    all.header.rank = h->rank;
    text_copy(all.header.job_uid, sizeof all.header.job_uid, h->job_uid);
    all.header.generation = h->generation;
    all.header.cut = h->cut;
    all.header.attempt = h->attempt;
    all.header.world_size = h->world_size;
    all.header.step = h->step;
    all.header.region_count = h->region_count;
    all.header.data_offset = h->data_offset;
    all.header.data_bytes = h->data_bytes;
    all.header.collectives = h->collectives;
    all.header.parts = h->parts;
    size_t each = sizeof *regions + (h->parts ? sizeof(struct slot_part) : 0);
    all.regions = digest_of(regions, h->region_count * each);
    return digest_of(&all, sizeof all);
}

enum tide_status slot_sum_assemble(const struct slot_header *facts, const struct slot_region *regions, struct digest *chunks,
                                   struct slot_sum *ret_sum, struct err *err)
{
    struct slot_sum sum = {.cut = facts->cut, .chunk_count = chunks_of(facts->data_bytes), .chunks = chunks};
    sum.table = table_digest(facts, regions);
    struct sum_file *image = image_of(&sum);
    if (image == NULL) {
        mem_free(chunks);
        return err_set(err, TIDE_E_NOMEM, "no memory for the digests of %llu chunks", (unsigned long long)sum.chunk_count);
    }
    sum.root = image->root;
    mem_free(image);
    *ret_sum = sum;
    return TIDE_OK;
}

/* Chunks of a slot on their way through several threads. */
struct hashing {
    const unsigned char *data;
    uint64_t data_bytes, count;
    const struct digest *wanted; /* or NULL: */
    struct digest *found;
    _Atomic uint64_t next, bad; /* bad: the smallest index whose digest is not as wanted; count: none */
};

static void hash_one(struct hashing *h, uint64_t index)
{
    struct digest digest = digest_of(h->data + index * CHUNK_BYTES, chunk_raw_bytes(h->data_bytes, index));
    uint64_t bad = atomic_load(&h->bad);
    if (h->found)
        h->found[index] = digest;
    else if (!digest_equal(h->wanted[index], digest))
        while (index < bad && !atomic_compare_exchange_weak(&h->bad, &bad, index))
            continue;
}

static void hash_some(void *context)
{
    struct hashing *h = context;
    for (;;) {
        uint64_t from = atomic_fetch_add(&h->next, HASH_SHARE);
        if (from >= h->count)
            return;
        for (uint64_t i = from; i < h->count && i < from + HASH_SHARE; i++)
            hash_one(h, i);
    }
}

static void hash_all(struct hashing *h)
{
    uint64_t shares = (h->count + HASH_SHARE - 1) / HASH_SHARE;
    unsigned size = team_size(HASH_THREADS);
    team_run(shares < size ? (unsigned)shares : size, hash_some, h);
}

enum tide_status slot_sum_compute(const struct slot *slot, struct slot_sum *ret_sum, struct err *err)
{
    struct slot_header h = *slot->header;
    enum tide_status status = slot_check(slot, h.job_uid, h.cut, h.rank, err);
    if (status != TIDE_OK)
        return status;
    /* The header is shared: go by the copy, as long as it is what was checked. */
    uint64_t needed = slot_bytes_of(&h);
    if (needed == 0 || needed > slot->mapped_bytes)
        return err_set(err, TIDE_E_CORRUPT, "the slot's header changed while it was read");
    struct digest *chunks = mem_try_array((size_t)chunks_of(h.data_bytes), sizeof *chunks);
    if (chunks == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for the digests of %llu bytes", (unsigned long long)h.data_bytes);
    struct hashing hashing = {
        .data = slot->data, .data_bytes = h.data_bytes, .count = chunks_of(h.data_bytes), .found = chunks};
    hash_all(&hashing);
    return slot_sum_assemble(&h, slot->regions, chunks, ret_sum, err);
}

/* ---- files ---- */

enum tide_status slot_sum_save(const char *path, const struct slot_sum *sum, struct err *err)
{
    struct sum_file *image = image_of(sum);
    if (image == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to write %s", path);
    enum tide_status status = fsx_replace(path, image, file_bytes(sum->chunk_count), 0600, err);
    mem_free(image);
    return status;
}

/* The whole file; the size is bounded by what a rank may have. */
static enum tide_status read_file(int fd, const char *path, struct sum_file **ret_file, size_t *ret_bytes, struct err *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return err_errno(err, "cannot stat %s", path);
    if (info.st_size < (off_t)sizeof(struct sum_file) || info.st_size > (off_t)file_bytes(RANK_CHUNKS_MAX))
        return err_set(err, TIDE_E_CORRUPT, "%s has %lld bytes, which no file of digests has", path,
                       (long long)info.st_size);
    size_t bytes = (size_t)info.st_size, used = 0;
    struct sum_file *file = mem_try_alloc(bytes);
    if (file == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to read %s", path);
    while (used < bytes) {
        ssize_t n = read(fd, (char *)file + used, bytes - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            enum tide_status status = n == 0 ? err_set(err, TIDE_E_CORRUPT, "%s was cut short while it was read", path)
                                             : err_errno(err, "cannot read %s", path);
            mem_free(file);
            return status;
        }
        used += (size_t)n;
    }
    *ret_file = file;
    *ret_bytes = bytes;
    return TIDE_OK;
}

static enum tide_status sum_of_file(struct sum_file *file, size_t bytes, const char *path, struct slot_sum *ret_sum,
                                    struct err *err)
{
    struct digest root = file->root;
    file->root = (struct digest){0};
    if (file->magic != SLOT_SUM_MAGIC || file->chunk_count > RANK_CHUNKS_MAX || bytes != file_bytes(file->chunk_count) ||
        !digest_equal(root, digest_of(file, bytes)))
        return err_set(err, TIDE_E_CORRUPT, "%s does not match its own digest", path);
    struct slot_sum sum = {.cut = file->cut, .chunk_count = file->chunk_count, .table = file->table, .root = root};
    sum.chunks = mem_try_array((size_t)sum.chunk_count, sizeof *sum.chunks);
    if (sum.chunks == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to read %s", path);
    memcpy(sum.chunks, file + 1, (size_t)sum.chunk_count * sizeof *sum.chunks);
    *ret_sum = sum;
    return TIDE_OK;
}

enum tide_status slot_sum_load(const char *path, struct slot_sum *ret_sum, struct err *err)
{
    struct sum_file *file = NULL;
    size_t bytes = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, TIDE_E_NOT_FOUND, "there are no digests %s", path);
    if (fd < 0)
        return err_errno(err, "cannot open %s", path);
    enum tide_status status = read_file(fd, path, &file, &bytes, err);
    close(fd);
    if (status != TIDE_OK)
        return status;
    status = sum_of_file(file, bytes, path, ret_sum, err);
    mem_free(file);
    return status;
}

enum tide_status slot_sum_parse(const void *bytes, size_t count, const char *name, struct slot_sum *ret_sum, struct err *err)
{
    if (count < sizeof(struct sum_file) || count > file_bytes(RANK_CHUNKS_MAX))
        return err_set(err, TIDE_E_CORRUPT, "%s has %zu bytes, which no file of digests has", name, count);
    struct sum_file *file = mem_try_alloc(count);
    if (file == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to read %s", name);
    memcpy(file, bytes, count);
    enum tide_status status = sum_of_file(file, count, name, ret_sum, err);
    mem_free(file);
    return status;
}

/* ---- comparing ---- */

enum tide_status slot_verify_table(const struct slot *slot, const struct slot_sum *sum, struct err *err)
{
    struct slot_header h = *slot->header;
    if (h.cut != sum->cut)
        return err_set(err, TIDE_E_NOT_FOUND, "the slot holds cut %llu and the digests beside it are of cut %llu",
                       (unsigned long long)h.cut, (unsigned long long)sum->cut);
    uint64_t needed = slot_bytes_of(&h);
    if (needed == 0 || needed > slot->mapped_bytes || chunks_of(h.data_bytes) != sum->chunk_count ||
        !digest_equal(sum->table, table_digest(&h, slot->regions)))
        return err_set(err, TIDE_E_CORRUPT, "header and regions of the slot of cut %llu do not match their digest",
                       (unsigned long long)h.cut);
    return TIDE_OK;
}

enum tide_status slot_open(const char *path, const char *sum_path, const char *job_uid, uint64_t cut, uint32_t rank,
                           struct slot *ret_slot, struct slot_sum *ret_sum, struct err *err)
{
    struct slot slot;
    struct slot_sum sum = {0};
    enum tide_status status = slot_map(path, 0, &slot, err);
    if (status != TIDE_OK)
        return status;
    status = slot_check(&slot, job_uid, cut, rank, err);
    if (status == TIDE_OK)
        status = slot_sum_load(sum_path, &sum, err);
    if (status == TIDE_OK)
        status = slot_verify_table(&slot, &sum, err);
    if (status == TIDE_OK)
        status = slot_open_file(&slot, path, O_RDONLY, &slot.file, err);
    if (status != TIDE_OK) {
        slot_unmap(&slot);
        slot_sum_release(&sum);
        return status;
    }
    *ret_slot = slot;
    *ret_sum = sum;
    return TIDE_OK;
}

/* The region a chunk begins in: what a person can find in the program. */
static const char *region_at(const struct slot *slot, uint64_t offset)
{
    const char *name = "";
    for (uint32_t i = 0; i < slot->header->region_count && i < TIDE_REGIONS_MAX; i++)
        if (slot->regions[i].offset <= offset)
            name = slot->regions[i].name;
    return name;
}

static enum tide_status bad_chunk(const struct slot *slot, const struct slot_sum *sum, uint64_t index, struct err *err)
{
    return err_set(err, TIDE_E_CORRUPT,
                   "chunk %llu of %llu of the slot of cut %llu (in region \"%.63s\") does not match its digest",
                   (unsigned long long)index, (unsigned long long)sum->chunk_count, (unsigned long long)sum->cut,
                   region_at(slot, index * CHUNK_BYTES));
}

static uint64_t data_room(const struct slot *slot)
{
    return slot->mapped_bytes - (size_t)(slot->data - (unsigned char *)slot->header);
}

static uint32_t chunk_bytes_in(const struct slot *slot, const struct slot_sum *sum, uint64_t index)
{
    uint64_t start = index * CHUNK_BYTES, data_bytes = slot->header->data_bytes;
    /* The header was verified, but it is shared memory still. */
    if (index >= sum->chunk_count || data_bytes > data_room(slot) || start >= data_bytes)
        return 0;
    return chunk_raw_bytes(data_bytes, index);
}

enum tide_status slot_verify(const struct slot *slot, const struct slot_sum *sum, struct err *err)
{
    enum tide_status status = slot_verify_table(slot, sum, err);
    if (status != TIDE_OK || sum->chunk_count == 0)
        return status;
    /* The header was verified, but it is shared memory still: it says nothing of how far we read. */
    uint64_t data_bytes = slot->header->data_bytes;
    if (chunks_of(data_bytes) != sum->chunk_count || data_bytes > data_room(slot))
        return bad_chunk(slot, sum, 0, err);
    struct hashing hashing = {.data = slot->data,
                              .data_bytes = data_bytes,
                              .count = sum->chunk_count,
                              .wanted = sum->chunks,
                              .bad = sum->chunk_count};
    hash_all(&hashing);
    uint64_t bad = atomic_load(&hashing.bad);
    return bad < sum->chunk_count ? bad_chunk(slot, sum, bad, err) : TIDE_OK;
}

/* Errors: CORRUPT (it is shorter than it was), INVALID (`to` cannot be written), IO. */
static enum tide_status read_piece(const struct slot *slot, uint64_t at, unsigned char *to, size_t bytes, struct err *err)
{
    off_t from = slot->data - (unsigned char *)slot->header + (off_t)at;
    for (size_t done = 0; done < bytes;) {
        ssize_t n = pread(slot->file, to + done, bytes - done, from + (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EFAULT)
            return err_set(err, TIDE_E_INVALID, "the memory that bytes %llu to %llu of the slot go to cannot be written",
                           (unsigned long long)at, (unsigned long long)(at + bytes));
        if (n < 0)
            return err_errno(err, "cannot read %zu bytes at %llu of the slot", bytes, (unsigned long long)at);
        if (n == 0)
            return err_set(err, TIDE_E_CORRUPT, "the slot ends before byte %llu of its data", (unsigned long long)(at + bytes));
        done += (size_t)n;
    }
    return TIDE_OK;
}

enum tide_status slot_chunk_read(const struct slot *slot, const struct slot_sum *sum, uint64_t index, unsigned char *to,
                                 uint32_t *ret_bytes, struct err *err)
{
    uint32_t bytes = chunk_bytes_in(slot, sum, index);
    struct digest_run *run = digest_run_create();
    enum tide_status status = run != NULL ? TIDE_OK : err_set(err, TIDE_E_NOMEM, "no memory to hash a chunk");
    for (size_t at = 0, n; status == TIDE_OK && at < bytes; at += n) {
        n = bytes - at < READ_BYTES ? bytes - at : READ_BYTES;
        status = read_piece(slot, index * CHUNK_BYTES + at, to + at, n, err);
        if (status == TIDE_OK)
            digest_run_add(run, to + at, n);
    }
    if (status == TIDE_OK && (bytes == 0 || !digest_equal(sum->chunks[index], digest_run_end(run))))
        status = bad_chunk(slot, sum, index, err);
    digest_run_free(run);
    if (status == TIDE_OK)
        *ret_bytes = bytes;
    return status;
}
