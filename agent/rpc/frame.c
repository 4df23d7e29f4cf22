/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/frame.h"

#include <string.h>

#include "ckpt/base/mem.h"

#define ROOM_FIRST 4096u

void inflow_init(struct inflow *inflow, size_t bytes_max)
{
    memset(inflow, 0, sizeof *inflow);
    inflow->most = bytes_max;
}

void inflow_release(struct inflow *inflow)
{
    mem_free(inflow->data);
    memset(inflow, 0, sizeof *inflow);
}

enum tide_status inflow_add(struct inflow *inflow, const char *data, size_t bytes, struct err *err)
{
    inflow_settle(inflow);
    if (bytes > inflow->most - inflow->used)
        return err_set(err, TIDE_E_LIMIT, "a message of more than %zu bytes", inflow->most);
    if (inflow->used + bytes > inflow->room) {
        size_t room = inflow->room ? inflow->room : ROOM_FIRST;
        while (room < inflow->used + bytes)
            room *= 2;
        inflow->data = mem_grow(inflow->data, room, 1);
        inflow->room = room;
    }
    if (bytes > 0)
        memcpy(inflow->data + inflow->used, data, bytes);
    inflow->used += bytes;
    return TIDE_OK;
}

void inflow_settle(struct inflow *inflow)
{
    if (inflow->taken == 0)
        return;
    inflow->used -= inflow->taken;
    memmove(inflow->data, inflow->data + inflow->taken, inflow->used);
    inflow->taken = 0;
}

bool inflow_line(struct inflow *inflow, const char **ret_data, size_t *ret_bytes)
{
    if (inflow->used == inflow->taken)
        return false;
    const char *from = inflow->data + inflow->taken;
    const char *end = memchr(from, '\n', inflow->used - inflow->taken);
    if (end == NULL)
        return false;
    *ret_data = from;
    *ret_bytes = (size_t)(end - from);
    inflow->taken += *ret_bytes + 1;
    return true;
}

enum tide_status inflow_frame(struct inflow *inflow, const char **ret_data, size_t *ret_bytes, struct err *err)
{
    *ret_data = NULL;
    size_t there = inflow->used - inflow->taken;
    if (there < FRAME_HEADER_BYTES)
        return TIDE_OK;
    const unsigned char *head = (const unsigned char *)inflow->data + inflow->taken;
    size_t bytes = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
    if (bytes > FRAME_BYTES_MAX)
        return err_set(err, TIDE_E_LIMIT, "a frame of %zu bytes is announced; at most %u are possible", bytes, FRAME_BYTES_MAX);
    if (there - FRAME_HEADER_BYTES < bytes)
        return TIDE_OK;
    *ret_data = (const char *)head + FRAME_HEADER_BYTES;
    *ret_bytes = bytes;
    inflow->taken += FRAME_HEADER_BYTES + bytes;
    return TIDE_OK;
}

char *frame_print(const struct mesh_frame *frame, size_t *ret_bytes)
{
    char *json = codec_print(&mesh_frame_codec, frame, CODEC_COMPACT);
    size_t n = strlen(json);
    char *data = mem_alloc(n + FRAME_HEADER_BYTES);
    for (unsigned i = 0; i < FRAME_HEADER_BYTES; i++)
        data[i] = (char)(n >> (8 * (FRAME_HEADER_BYTES - 1 - i)));
    memcpy(data + FRAME_HEADER_BYTES, json, n);
    mem_free(json);
    *ret_bytes = n + FRAME_HEADER_BYTES;
    return data;
}

enum tide_status frame_parse(const char *data, size_t bytes, struct mesh_frame *ret_frame, struct err *err)
{
    return codec_parse(&mesh_frame_codec, data, bytes, CODEC_LENIENT, ret_frame, err);
}
