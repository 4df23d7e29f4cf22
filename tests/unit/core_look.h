/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CORE_LOOK_H
#define TESTS_UNIT_CORE_LOOK_H

/* What stories about the coordinator's core look at. Included by core_dsl.h, whose world it is. */

static inline struct ckpt *ckpt_of(struct world *w, const char *job, uint64_t cut)
{
    struct ckpt *ckpt = job_ckpt(job_of(w, job), cut);
    if (ckpt == NULL)
        fail_msg("job %s has no checkpoint %" PRIu64, job, cut);
    return ckpt;
}

static inline const struct event *event_last(struct world *w, const char *job, unsigned kind)
{
    const struct job *of = job_of(w, job);
    for (size_t i = of->events.count; i-- > 0;)
        if (of->events.items[i].kind == kind)
            return &of->events.items[i];
    return NULL;
}

static inline unsigned event_count(struct world *w, const char *job, unsigned kind)
{
    const struct job *of = job_of(w, job);
    unsigned count = 0;
    for (size_t i = 0; i < of->events.count; i++)
        count += of->events.items[i].kind == kind;
    return count;
}

#define assert_text(text, part)                                                                                             \
    do {                                                                                                                    \
        if (strstr((text), (part)) == NULL)                                                                                 \
            fail_msg("\"%s\" does not hold \"%s\"", (text), (part));                                                        \
    } while (0)

#define assert_state(w, job, word) assert_string_equal(job_state_names[job_of((w), (job))->state], (word))

static inline bool explained(struct world *w, const char *job, const char *part)
{
    struct job_view view;
    struct err err;
    assert_int_equal(view_job(&w->state, &w->book, job, w->now_ns, &view, &err), TIDE_OK);
    bool found = false;
    for (size_t i = 0; i < view.explain.count; i++)
        found = found || strstr(view.explain.items[i], part) != NULL;
    for (size_t i = 0; !found && i < view.explain.count; i++)
        fprintf(stderr, "explain: %s\n", view.explain.items[i]);
    codec_release(&job_view_codec, &view);
    return found;
}

#endif
