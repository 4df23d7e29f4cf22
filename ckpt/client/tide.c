/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/client.h"

/* The only state outside handles: why the last tide_init failed, which left no handle to keep it in. */
static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static char init_text[ERR_TEXT_MAX] = "no error";

static void remember(const char *text)
{
    pthread_mutex_lock(&init_lock);
    text_copy(init_text, sizeof init_text, text);
    pthread_mutex_unlock(&init_lock);
}

static void destroy(struct tide *tide)
{
    prefault_end(tide);
    finish_end(tide);
    devices_close(tide); /* before what it pinned is unmapped */
    record_release(tide);
    for (unsigned s = 0; s < SLOTS; s++)
        slot_unmap(&tide->slots[s]);
    if (tide->page)
        munmap(tide->page, CONTROL_PAGE_BYTES);
    if (tide->fd >= 0)
        close(tide->fd);
    mem_free(tide->regions);
    mem_free(tide->parts);
    mem_free(tide);
}

/* A field that the caller's struct does not reach, or leaves 0, has its default. */
static enum tide_status complete(const struct tide_options *options, struct tide_options *to, struct err *err)
{
    *to = (struct tide_options){.size = sizeof *to};
    if (options != NULL && options->size < sizeof options->size)
        return err_set(err, TIDE_E_INVALID, "tide_options.size is %zu; set it to sizeof(struct tide_options)",
                       options->size);
    if (options != NULL)
        memcpy(to, options, options->size < sizeof *to ? options->size : sizeof *to);
    if ((unsigned)to->cut > TIDE_CUT_FREE)
        return err_set(err, TIDE_E_INVALID, "tide_options.cut is %u, which is none of enum tide_cut", (unsigned)to->cut);
    if (to->deadline_ms == 0)
        to->deadline_ms = DEADLINE_MS_DEFAULT;
    if (to->deadline_ms > UINT32_MAX)
        to->deadline_ms = UINT32_MAX;
    if (to->channel_bytes_max == 0)
        to->channel_bytes_max = CUT_CHANNEL_BYTES_DEFAULT;
    return TIDE_OK;
}

static enum tide_status start(struct tide **ret_tide, const struct tide_options *options, struct err *err)
{
    struct tide_options whole;
    enum tide_status status = complete(options, &whole, err);
    if (status != TIDE_OK)
        return status;
    struct tide *tide = mem_try_alloc(sizeof *tide);
    if (tide == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for a handle");
    tide->fd = -1;
    tide->pid = getpid();
    tide->options = whole;
    tide->step_min = STEP_LIMIT;
    record_init(&tide->record);
    text_copy(tide->err.text, sizeof tide->err.text, "no error");
    const char *socket_path = getenv(ENV_SOCKET);
    status = socket_path && socket_path[0] ? attach(tide, err) : attach_nowhere(tide, err);
    if (status != TIDE_OK) {
        destroy(tide);
        return status;
    }
    *ret_tide = tide;
    return TIDE_OK;
}

enum tide_status tide_init(struct tide **ret_tide, const struct tide_options *options)
{
    struct err err = {.status = TIDE_OK};
    enum tide_status status =
        ret_tide ? start(ret_tide, options, &err) : err_set(&err, TIDE_E_INVALID, "tide_init needs a place for the handle");
    if (status != TIDE_OK)
        remember(err.text);
    return status;
}

int tide_active(const struct tide *tide)
{
    return tide != NULL && tide->in_job;
}

void tide_finalize(struct tide *tide)
{
    if (tide == NULL)
        return;
    restart_end(tide);
    on_write_end(tide);
    finish_await(tide);
    record_never(tide);
    colour_detach(tide);
    comms_detach(tide);
    /* A forked child that cleans up is not the rank that leaves. */
    if (tide->in_job && getpid() == tide->pid) {
        atomic_store(&tide->page->phase, CONTROL_FINALIZED);
        channel_nudge(tide, LOCAL_GOODBYE);
    }
    destroy(tide);
}

const char *tide_error_text(const struct tide *tide)
{
    return tide ? tide->err.text : init_text;
}
