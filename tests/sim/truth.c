/* SPDX-License-Identifier: Apache-2.0 */
/* What is committed: the log and the state that every member must come to, from whoever applied an entry first. */
#include "tests/sim/sim.h"

#define IMAGE_EVERY 150u /* entries between images to replay from */
#define REPLAY_EVERY 97u /* entries between checks that a replay gives the same state */

bool truth_parse(struct world *w, const char *text, struct command *ret_command)
{
    struct err err = {0};
    if (codec_parse(&command_codec, text, strlen(text), CODEC_STRICT, ret_command, &err) == TIDE_OK)
        return true;
    violation(w, "a log entry cannot be read back: %s: %.200s", err.text, text);
    return false;
}

/* From the whole log, and from the last snapshot plus the rest, the same bytes of state. */
static void replay(struct world *w, struct state *state, size_t from)
{
    for (size_t i = from; i < w->leader.count && !w->stop; i++) {
        struct command command;
        struct outcome outcome = {0};
        struct err err = {0};
        if (w->leader.log[i].text == NULL || !truth_parse(w, w->leader.log[i].text, &command))
            continue;
        apply(state, &command, i + 1, &outcome, &err);
        codec_release(&command_codec, &command);
    }
}

void truth_expect(struct world *w, const struct state *a, const char *b_text, const char *what)
{
    char *text = codec_print(&state_codec, a, CODEC_STRICT);
    size_t at = 0;
    while (text[at] != '\0' && text[at] == b_text[at])
        at++;
    if (text[at] != b_text[at])
        violation(w, "%s differs from the state at revision %" PRIu64 ": …%.100s… is not …%.100s…", what, a->revision,
                  text + (at > 40 ? at - 40 : 0), b_text + (at > 40 ? at - 40 : 0));
    mem_free(text);
}

void check_replay(struct world *w)
{
    struct truth_log *l = &w->leader;
    char *now = codec_print(&state_codec, &l->state, CODEC_STRICT);
    struct state state = {0};
    struct err err = {0};
    if (l->image_index == 0 || l->count < 2000) {
        replay(w, &state, 0);
        truth_expect(w, &state, now, "a replay of the log");
        state_release(&state);
    }
    if (l->image != NULL && !w->stop) {
        if (codec_parse(&state_codec, l->image, strlen(l->image), CODEC_STRICT, &state, &err) != TIDE_OK) {
            violation(w, "the snapshot cannot be read back: %s", err.text);
        } else {
            replay(w, &state, l->image_index);
            truth_expect(w, &state, now, "snapshot and rest of the log");
            state_release(&state);
        }
    }
    mem_free(now);
    w->replays++;
}

/* A repeated request must change nothing: kept to compare. Only then, since printing the state is slow. */
static char *state_before(const struct state *state, const struct command *command)
{
    for (size_t i = 0; command->request[0] != '\0' && i < state->sessions.count; i++)
        if (strcmp(state->sessions.items[i].request, command->request) == 0)
            return codec_print(&state_codec, state, CODEC_STRICT);
    return NULL;
}

/* Committed, and seen for the first time: this is the truth from now on, and everything is checked. */
static void apply_first(struct world *w, const char *text, uint64_t index)
{
    struct truth_log *l = &w->leader;
    struct command command;
    struct outcome outcome = {0};
    struct err err = {0};
    if (text == NULL || !truth_parse(w, text, &command))
        return;
    char *before = state_before(&l->state, &command);
    enum tide_status status = apply(&l->state, &command, index, &outcome, &err);
    w->applied_total++;
    trace(w, "apply %" PRIu64 " %s %s gen %" PRIu64 " cut %" PRIu64 " step %" PRIu64 " %s%s -> %s %.150s", index,
          command_kind_names[command.kind], command.job, command.generation, command.cut, command.step,
          command.node[0] ? command.node : command.hello.name, command.final ? " final" : "", tide_status_name(status),
          status == TIDE_OK ? command.event.text : err.text);
    if (l->state.revision != index)
        violation(w, "apply left revision %" PRIu64 ", not %" PRIu64, l->state.revision, index);
    if (state_check(&l->state, &err) != TIDE_OK)
        violation(w, "state_check after %s: %s", command_kind_names[command.kind], err.text);
    check_applied(w, &command, status, before);
    if (w->on_applied != NULL)
        w->on_applied(w, &command, status);
    codec_release(&command_codec, &command);
    mem_free(before);
}

void truth_commit(struct world *w, const struct raft_entry *entry)
{
    struct truth_log *l = &w->leader;
    if (entry->index <= l->count) {
        const struct entry *first = &l->log[entry->index - 1];
        if (first->term != entry->term || first->type != entry->type)
            violation(w, "entry %" PRIu64 " was committed of term %" PRIu64 ", and again of term %" PRIu64, entry->index,
                      first->term, entry->term);
        return;
    }
    if (entry->index != l->count + 1) {
        violation(w, "entry %" PRIu64 " is committed, but entry %zu was never seen", entry->index, l->count + 1);
        return;
    }
    if (l->count == l->room) {
        l->room = l->room ? 2 * l->room : 256;
        l->log = mem_grow(l->log, l->room, sizeof l->log[0]);
    }
    char *text = entry->type == RAFT_COMMAND ? mem_strdup(entry->blob->data) : NULL;
    l->log[l->count++] = (struct entry){.index = entry->index, .term = entry->term, .type = entry->type, .text = text};
    apply_first(w, text, entry->index);
    if (l->count % REPLAY_EVERY == 0 && !w->stop)
        check_replay(w);
    if (l->count >= l->image_index + IMAGE_EVERY) {
        mem_free(l->image);
        l->image = codec_print(&state_codec, &l->state, CODEC_STRICT);
        l->image_index = l->count;
    }
}
