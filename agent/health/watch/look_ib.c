/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/health/watch/inner.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"

#define IB_ROOT "/sys/class/infiniband"
#define VALUE_MAX 64u

struct ports_past {
    struct {
        char subject[HEALTH_SUBJECT_MAX + 1];
        struct port_past past;
    } ports[IB_PORTS_MAX];
    size_t count;
};

/* "4: ACTIVE", "12345" */
static bool read_number(const char *path, uint64_t *ret_number)
{
    char *text = NULL, *end = NULL;
    size_t bytes = 0;
    bool good = fsx_read(path, VALUE_MAX, &text, &bytes, NULL) == TIDE_OK && bytes > 0 && text[0] >= '0' && text[0] <= '9';
    if (good)
        *ret_number = strtoull(text, &end, 10);
    mem_free(text);
    return good;
}

bool port_read(const char *root, const char *device, const char *port, struct port_reading *ret_reading)
{
    char path[512];
    uint64_t state = 0;
    *ret_reading = (struct port_reading){0};
    snprintf(ret_reading->subject, sizeof ret_reading->subject, "%.60s port %.8s", device, port);
    snprintf(path, sizeof path, "%.200s/%.60s/ports/%.8s/state", root, device, port);
    if (!read_number(path, &state))
        return false;
    ret_reading->state = (unsigned)state;
    snprintf(path, sizeof path, "%.200s/%.60s/ports/%.8s/counters/link_downed", root, device, port);
    ret_reading->known |= read_number(path, &ret_reading->link_downed) ? PORT_KNOWS_DOWNED : 0;
    snprintf(path, sizeof path, "%.200s/%.60s/ports/%.8s/counters/symbol_error", root, device, port);
    ret_reading->known |= read_number(path, &ret_reading->symbol_errors) ? PORT_KNOWS_SYMBOLS : 0;
    return true;
}

static struct port_past *past_of(struct ports_past *past, const char *subject)
{
    for (size_t i = 0; i < past->count; i++)
        if (strcmp(past->ports[i].subject, subject) == 0)
            return &past->ports[i].past;
    if (past->count == IB_PORTS_MAX)
        return NULL;
    text_copy(past->ports[past->count].subject, sizeof past->ports[past->count].subject, subject);
    return &past->ports[past->count++].past;
}

static void look_port(struct looker *looker, const char *root, const char *device, const char *port)
{
    struct port_reading reading;
    struct finding finding;
    if (!port_read(root, device, port, &reading))
        return;
    struct port_past *past = past_of(looker->past, reading.subject);
    if (past == NULL)
        return;
    uint64_t now_ns = clock_mono_ns();
    port_judge(past, &reading, now_ns, &finding);
    watch_found(looker->watch, &finding, now_ns);
}

static void look_device(struct looker *looker, const char *root, const char *device)
{
    char path[WATCH_PATH_MAX + 80];
    snprintf(path, sizeof path, "%s/%.60s/ports", root, device);
    DIR *ports = opendir(path);
    for (struct dirent *entry; ports != NULL && (entry = readdir(ports)) != NULL;)
        if (entry->d_name[0] != '.')
            look_port(looker, root, device, entry->d_name);
    if (ports != NULL)
        closedir(ports);
}

/* A host without InfiniBand is looked at once. */
bool look_ib(struct looker *looker)
{
    char root[WATCH_PATH_MAX];
    watch_path(looker->watch, IB_ROOT, root);
    DIR *devices = opendir(root);
    if (devices == NULL)
        return false;
    if (looker->past == NULL)
        looker->past = mem_alloc(sizeof(struct ports_past));
    for (struct dirent *entry; (entry = readdir(devices)) != NULL;)
        if (entry->d_name[0] != '.')
            look_device(looker, root, entry->d_name);
    closedir(devices);
    return true;
}
