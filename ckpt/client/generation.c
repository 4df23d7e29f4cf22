/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/client/client.h"

/* What is another in each generation, for processes that outlive one: their environment does not change. */

#define GENERATION_BYTES_MIN (offsetof(struct tide_generation, master_address) + sizeof((struct tide_generation){0}.master_address))
_Static_assert(sizeof((struct tide_generation){0}.master_address) == CONTROL_ADDRESS_MAX + 1, "an address fits");

static uint64_t number_of(const char *name)
{
    const char *text = getenv(name);
    return text != NULL && *text >= '0' && *text <= '9' ? strtoull(text, NULL, 10) : 0;
}

static void read_environment(struct tide_generation *to)
{
    const char *address = getenv("MASTER_ADDR");
    to->restarts = (uint32_t)number_of("TORCHELASTIC_RESTART_COUNT");
    to->master_port = (uint32_t)number_of("MASTER_PORT");
    text_copy(to->master_address, sizeof to->master_address, address != NULL ? address : "");
}

static enum tide_status read_page(struct tide *tide, struct tide_generation *to)
{
    const struct control_page *page = tide->page;
    if (page->generation != tide->generation)
        return restart_due(tide);
    if (page->master_port == 0)
        return err_set(&tide->err, TIDE_E_UNSUPPORTED, "the step process is of an older version, and tells nothing of the generation");
    to->number = page->generation;
    to->restarts = page->restarts;
    to->master_port = page->master_port;
    text_copy(to->master_address, sizeof to->master_address, page->master_address);
    return TIDE_OK;
}

enum tide_status tide_get_generation(struct tide *tide, struct tide_generation *ret_generation)
{
    struct tide_generation is = {0};
    enum tide_status status = TIDE_OK;
    if (tide == NULL || ret_generation == NULL || ret_generation->size < GENERATION_BYTES_MIN)
        return TIDE_E_INVALID;
    if (tide->in_job)
        status = read_page(tide, &is);
    else
        read_environment(&is);
    if (status != TIDE_OK)
        return status;
    is.size = ret_generation->size;
    memcpy(ret_generation, &is, is.size < sizeof is ? is.size : sizeof is);
    return TIDE_OK;
}
