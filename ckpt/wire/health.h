/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_WIRE_HEALTH_H
#define CKPT_WIRE_HEALTH_H

/* What the probes of a node found (agent/health): part of its heartbeat, and of what the coordinators keep of it. A level, as
 * all of a heartbeat: what is wrong now, each time all of it. */

#include <tidemark/states.h>
#include <tidemark/types.h>

#include "ckpt/wire/codec.h"

#define HEALTH_FACTS_MAX 32u   /* of one node */
#define HEALTH_SUBJECT_MAX 79  /* bytes of "GPU 0000:65:00" */
#define HEALTH_SENTENCE_MAX 511 /* bytes of a fact with its probe and subject, whole */
#define HEALTH_BOOT_MAX 36     /* characters of the kernel's boot id */

/* One thing that is wrong: the evidence. */
struct health_fact {
    char probe[TIDE_NAME_MAX + 1];         /* "xid" */
    char subject[HEALTH_SUBJECT_MAX + 1];  /* of what: "GPU 0000:65:00" */
    unsigned state;     /* enum tide_health, never healthy */
    bool restart;       /* ranks there that make no step since then cannot: what helps is another generation */
    bool latched;       /* true until the host boots anew, or somebody resumes the node */
    uint64_t serial;    /* larger: seen later, on the same node; never used twice there */
    uint64_t ago_ms;    /* in heartbeats: since it began */
    uint64_t at_ms;     /* as kept: wall clock of the leader then; for people */
    char text[TIDE_TEXT_MAX + 1]; /* a sentence */
};

struct health_facts {
    struct health_fact *items;
    size_t count;
};

struct health_report {
    char boot[HEALTH_BOOT_MAX + 1]; /* empty: nobody looked */
    struct health_facts facts;
};
extern const struct codec health_fact_codec, health_report_codec;
extern const char *const health_names[];

/* The worst that counts, the first of several; NULL: healthy. What is not newer than `forgiven` does not count. */
const struct health_fact *health_worst(const struct health_facts *facts, uint64_t forgiven);
/* The largest serial; 0: there is none. */
uint64_t health_newest(const struct health_facts *facts);
/* The same evidence, whatever its age. */
bool health_same(const struct health_facts *a, const struct health_facts *b);
/* The fact about that subject; NULL: none. */
const struct health_fact *health_find(const struct health_facts *facts, const char *probe, const char *subject);
/* "xid: GPU 0000:65:00: Xid 79, GPU has fallen off the bus" */
void health_fact_text(const struct health_fact *fact, char *to, size_t size);

#endif
