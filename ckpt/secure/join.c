/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/secure/join.h"

#include <stdio.h>
#include <string.h>

void join_format(const struct join *join, char ret_text[JOIN_CHARS + 1])
{
    snprintf(ret_text, JOIN_CHARS + 1, JOIN_PREFIX ".%s.%s", join->pin, join->secret);
}

enum tide_status join_parse(const char *text, struct join *ret_join, struct err *err)
{
    static const char blanks[] = " \t\r\n";
    struct join join;
    text += strspn(text, blanks);
    size_t n = strcspn(text, blanks), head = strlen(JOIN_PREFIX ".");
    bool good = n == JOIN_CHARS && text[n + strspn(text + n, blanks)] == '\0' && strncmp(text, JOIN_PREFIX ".", head) == 0 &&
                strspn(text + head, "0123456789abcdef") == SHA256_HEX_CHARS && text[head + SHA256_HEX_CHARS] == '.';
    if (good) {
        snprintf(join.pin, sizeof join.pin, "%.*s", SHA256_HEX_CHARS, text + head);
        snprintf(join.secret, sizeof join.secret, "%.*s", SECRET_CHARS, text + head + SHA256_HEX_CHARS + 1);
        good = secret_plausible(join.secret);
    }
    if (!good)
        return err_set(err, TIDE_E_INVALID,
                       "that is not a join token; it is one word that begins with " JOIN_PREFIX
                       ", in the file join-token of tidemark cluster init");
    *ret_join = join;
    secret_wipe(&join, sizeof join);
    return TIDE_OK;
}
