/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/raft/message.h"

#include "ckpt/base/mem.h"

void raft_message_release(struct raft_message *message)
{
    if (message->kind == RAFT_MSG_APPEND) {
        for (size_t i = 0; i < message->append.count; i++)
            raft_blob_unref(message->append.entries[i].blob);
        mem_free(message->append.entries);
    } else if (message->kind == RAFT_MSG_SNAPSHOT) {
        raft_blob_unref(message->snapshot.config);
        raft_blob_unref(message->snapshot.data);
    }
    *message = (struct raft_message){0};
}
