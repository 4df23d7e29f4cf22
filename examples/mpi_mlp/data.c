/* SPDX-License-Identifier: Apache-2.0 */
#include "data.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#define PATH_BYTES 4096

static void fail(const char *path, const char *what)
{
    fprintf(stderr, "train: %s: %s (is the package dataset-fashion-mnist installed, or --data wrong?)\n", path, what);
}

static uint32_t big_endian(const unsigned char *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* An idx file: magic 0x000008DD with DD dimensions, the dimensions, then bytes. `item_bytes` is what the dimensions after
 * the first must multiply to. */
static uint8_t *idx_read(const char *path, unsigned dimensions, uint32_t item_bytes, uint32_t *ret_count)
{
    unsigned char head[16];
    unsigned head_bytes = 4 + 4 * dimensions;
    uint8_t *bytes = NULL;
    gzFile file = gzopen(path, "rb");
    if (!file) {
        fail(path, "cannot be opened");
        return NULL;
    }
    if (gzread(file, head, head_bytes) != (int)head_bytes || big_endian(head) != 0x800 + dimensions) {
        fail(path, "is not an idx file");
        goto done;
    }
    uint32_t count = big_endian(head + 4), product = 1;
    for (unsigned d = 1; d < dimensions; d++)
        product *= big_endian(head + 4 + 4 * d);
    if (product != item_bytes || count == 0 || count > IMAGES_MAX) {
        fail(path, "holds items of another shape or number");
        goto done;
    }
    unsigned size = count * item_bytes;
    bytes = malloc(size);
    if (!bytes || gzread(file, bytes, size) != (int)size) {
        fail(path, "is cut short");
        free(bytes);
        bytes = NULL;
        goto done;
    }
    *ret_count = count;
done:
    gzclose(file);
    return bytes;
}

int images_load(struct images *images, const char *dir, const char *set)
{
    char path[PATH_BYTES];
    uint32_t labels = 0;
    *images = (struct images){0};
    snprintf(path, sizeof(path), "%s/%s-images-idx3-ubyte.gz", dir, set);
    images->pixels = idx_read(path, 3, IMAGE_PIXELS, &images->count);
    if (!images->pixels)
        return -1;
    snprintf(path, sizeof(path), "%s/%s-labels-idx1-ubyte.gz", dir, set);
    images->labels = idx_read(path, 1, 1, &labels);
    if (!images->labels)
        goto bad;
    if (labels != images->count) {
        fail(path, "has another number of labels than there are images");
        goto bad;
    }
    for (uint32_t i = 0; i < labels; i++) {
        if (images->labels[i] >= LABELS) {
            fail(path, "holds a label above 9");
            goto bad;
        }
    }
    return 0;
bad:
    images_release(images);
    return -1;
}

void images_release(struct images *images)
{
    free(images->pixels);
    free(images->labels);
    *images = (struct images){0};
}

uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void shuffle(struct sampler *sampler)
{
    for (uint32_t i = sampler->count - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(random_next(&sampler->random) % (i + 1));
        uint32_t kept = sampler->order[i];
        sampler->order[i] = sampler->order[j];
        sampler->order[j] = kept;
    }
    sampler->next = 0;
}

void sampler_init(struct sampler *sampler, uint32_t count, uint64_t seed)
{
    *sampler = (struct sampler){.random = seed, .count = count};
    for (uint32_t i = 0; i < count; i++)
        sampler->order[i] = i;
    shuffle(sampler);
}

const uint32_t *sampler_take(struct sampler *sampler, uint32_t n)
{
    if (sampler->count - sampler->next < n) {
        sampler->epoch++;
        shuffle(sampler);
    }
    const uint32_t *taken = sampler->order + sampler->next;
    sampler->next += n;
    return taken;
}
