/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/format/tensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidemark/tidemark.h>

#include "ckpt/base/mem.h"

#define RESERVED REGION_RESERVED_PREFIX
#define HEADER_ALIGN 8u
#define NUMBER_CHARS 24

/* Which of the two kinds of 8-bit floats it is we are not told, so they are bytes here; the metadata says what they were. */
static const struct {
    const char *dtype, *ours;
    unsigned width;
} types[] = {[TIDE_BYTES] = {"U8", "bytes", 1}, [TIDE_F64] = {"F64", "f64", 8}, [TIDE_F32] = {"F32", "f32", 4},
             [TIDE_BF16] = {"BF16", "bf16", 2}, [TIDE_F16] = {"F16", "f16", 2}, [TIDE_F8] = {"U8", "f8", 1},
             [TIDE_I64] = {"I64", "i64", 8},    [TIDE_I32] = {"I32", "i32", 4}, [TIDE_I16] = {"I16", "i16", 2},
             [TIDE_I8] = {"I8", "i8", 1}};
#define TYPES (sizeof types / sizeof types[0])

static const char *our_word(const struct tensor *tensor)
{
    return types[tensor->region->dtype < TYPES ? tensor->region->dtype : TIDE_BYTES].ours;
}

/* Nonzero unless the shape is one of so many numbers. */
static int shape_is_of(const struct tensor *tensor, uint64_t numbers)
{
    uint64_t product = 1;
    for (unsigned i = 0; i < tensor->ndim; i++)
        if (__builtin_mul_overflow(product, tensor->shape[i], &product))
            return 0;
    return tensor->ndim > 0 && product == numbers;
}

/* As recorded; a shape that is not that of the bytes was no more than a note, and they are a row. */
static struct tensor tensor_of(const struct region_entry *region)
{
    struct tensor tensor = {.region = region};
    unsigned dtype = region->dtype < TYPES ? region->dtype : TIDE_BYTES;
    if (region->bytes % types[dtype].width != 0)
        dtype = TIDE_BYTES;
    tensor.dtype = types[dtype].dtype;
    tensor.width = types[dtype].width;
    uint64_t numbers = region->bytes / tensor.width;
    if (shape_parse(region->shape, &tensor.ndim, tensor.shape) != 0 || !shape_is_of(&tensor, numbers)) {
        tensor.ndim = 1;
        tensor.shape[0] = numbers;
    }
    return tensor;
}

static int by_width(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    if (x->width != y->width)
        return x->width > y->width ? -1 : 1;
    return x->region->offset < y->region->offset ? -1 : x->region->offset > y->region->offset;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum tide_status check_names(const struct tensors *tensors, struct err *err)
{
    const char **names = mem_array(tensors->count, sizeof *names);
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; i < tensors->count; i++)
        names[i] = tensors->items[i].region->name;
    if (tensors->count > 0)
        qsort(names, tensors->count, sizeof *names, by_name);
    for (size_t i = 0; i < tensors->count && status == TIDE_OK; i++)
        if (strcmp(names[i], TENSOR_METADATA) == 0 || (i > 0 && strcmp(names[i - 1], names[i]) == 0))
            status = err_set(err, TIDE_E_INVALID, "a region called \"%s\" cannot be a tensor: %s; export it with --format raw",
                             names[i], i > 0 && strcmp(names[i - 1], names[i]) == 0 ? "there are two" : "the name is reserved");
    mem_free(names);
    return status;
}

enum tide_status tensors_plan(const struct rank_manifest *m, struct tensors *ret_tensors, struct err *err)
{
    struct tensors tensors = {.items = mem_array(m->regions.count, sizeof(struct tensor))};
    for (size_t i = 0; i < m->regions.count; i++)
        if (strncmp(m->regions.items[i].name, RESERVED, strlen(RESERVED)) != 0)
            tensors.items[tensors.count++] = tensor_of(&m->regions.items[i]);
    if (tensors.count > 0)
        qsort(tensors.items, tensors.count, sizeof tensors.items[0], by_width);
    for (size_t i = 0; i < tensors.count; i++) {
        tensors.items[i].begin = tensors.bytes;
        tensors.bytes += tensors.items[i].region->bytes;
    }
    *ret_tensors = tensors;
    return check_names(&tensors, err);
}

void tensors_release(struct tensors *tensors)
{
    mem_free(tensors->items);
    *tensors = (struct tensors){0};
}

static void add_number(json_t *to, const char *key, uint64_t number)
{
    char text[NUMBER_CHARS];
    snprintf(text, sizeof text, "%" PRIu64, number);
    json_object_set_new(to, key, json_string(text));
}

/* Texts only: safetensors has no others here. */
static json_t *metadata(const struct rank_manifest *m, const struct tensors *tensors)
{
    json_t *json = json_object();
    json_object_set_new(json, "job", json_string(m->job));
    add_number(json, "checkpoint", m->cut);
    add_number(json, "step", m->step);
    add_number(json, "rank", m->rank);
    add_number(json, "world_size", m->world_size);
    for (size_t i = 0; i < tensors->count; i++)
        if (tensors->items[i].region->dtype == TIDE_F8) {
            char key[TIDE_NAME_MAX + 16];
            snprintf(key, sizeof key, "dtype of %s", tensors->items[i].region->name);
            json_object_set_new(json, key, json_string(our_word(&tensors->items[i])));
        }
    return json;
}

static json_t *shape_json(const struct tensor *tensor)
{
    json_t *shape = json_array();
    for (unsigned i = 0; i < tensor->ndim; i++)
        json_array_append_new(shape, json_integer((json_int_t)tensor->shape[i]));
    return shape;
}

static json_t *offsets_json(const struct tensor *tensor)
{
    return json_pack("[I,I]", (json_int_t)tensor->begin, (json_int_t)(tensor->begin + tensor->region->bytes));
}

char *tensors_header(const struct rank_manifest *m, const struct tensors *tensors, size_t *ret_bytes)
{
    json_t *json = json_object();
    json_object_set_new(json, TENSOR_METADATA, metadata(m, tensors));
    for (size_t i = 0; i < tensors->count; i++) {
        const struct tensor *t = &tensors->items[i];
        json_object_set_new(json, t->region->name,
                            json_pack("{s:s,s:o,s:o}", "dtype", t->dtype, "shape", shape_json(t), "data_offsets", offsets_json(t)));
    }
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    size_t n = strlen(text), padded = (n + HEADER_ALIGN - 1) / HEADER_ALIGN * HEADER_ALIGN;
    char *header = mem_alloc(HEADER_ALIGN + padded);
    for (unsigned i = 0; i < HEADER_ALIGN; i++)
        header[i] = (char)(padded >> (8 * i) & 0xff);
    memset(header + HEADER_ALIGN, ' ', padded);
    memcpy(header + HEADER_ALIGN, text, n);
    mem_free(text);
    *ret_bytes = HEADER_ALIGN + padded;
    return header;
}

char *tensors_index(const struct rank_manifest *m, const struct tensors *tensors)
{
    json_t *list = json_array();
    for (size_t i = 0; i < tensors->count; i++) {
        const struct tensor *t = &tensors->items[i];
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:I,s:I}", "name", t->region->name, "dtype", our_word(t), "shape",
                                              t->region->shape, "offset", (json_int_t)t->begin, "bytes",
                                              (json_int_t)t->region->bytes));
    }
    json_t *json = json_pack("{s:o,s:o}", "checkpoint", metadata(m, tensors), "regions", list);
    char *text = json_dumps(json, JSON_INDENT(1));
    char *copy = mem_format("%s\n", text);
    json_decref(json);
    mem_free(text);
    return copy;
}
