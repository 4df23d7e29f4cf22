/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CORE_FOUND_H
#define TESTS_UNIT_CORE_FOUND_H

/* Checkpoints that somebody found in a store, as they are told to the group: of job old, which another log knew. */

#include "core_saves.h"

#define OLD_UID "00112233445566aa"
#define OLD_DIGEST "0123456789abcdef0123456789abcdef"

static inline struct command found(struct world *w, uint64_t cut, uint64_t generation)
{
    struct command command = command_new(w, CMD_CKPT_IMPORT, "old");
    TEXT_SET(command.uid, OLD_UID);
    snprintf(command.key, sizeof command.key, "m/old." OLD_UID "/%" PRIu64 "-%" PRIu64 "/COMMIT", cut, generation);
    TEXT_SET(command.digest, OLD_DIGEST);
    TEXT_SET(command.store, "file:///old");
    command.cut = cut;
    command.generation = generation;
    command.step = 100 * cut;
    command.bytes = 2000;
    command.stored = 900;
    TEXT_SET(command.spec.name, "old");
    command.spec.nnodes = 2;
    return command;
}

static inline enum tide_status import(struct world *w, uint64_t cut, uint64_t generation)
{
    struct command command = found(w, cut, generation);
    return world_apply(w, &command);
}

static inline void start(struct world *w)
{
    world_init(w);
    world_nodes(w, 2, 1);
}

#endif
