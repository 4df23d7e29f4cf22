/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/store/s3_xml.h"

#include <expat.h>
#include <limits.h>
#include <string.h>

#include "ckpt/base/mem.h"

#define DEPTH_MAX 8
#define TEXT_MAX (6 * TIDE_PATH_MAX) /* an encoded key is up to three times as long */
#define KEY_MAX (2 * TIDE_PATH_MAX)  /* with the prefix */

/* A reading: the text of the innermost element, and who takes it when the element ends. */
struct reading {
    XML_Parser parser;
    int depth;
    int bad; /* a DOCTYPE, or too deep: no document of ours */
    size_t used;
    int too_long;
    char text[TEXT_MAX + 1];
    char parent[DEPTH_MAX + 1][S3_CODE_MAX + 1]; /* names by depth */
    void (*take)(struct reading *reading, const char *parent, const char *name);
    void *to;
};

static void stop(struct reading *reading)
{
    reading->bad = 1;
    XML_StopParser(reading->parser, XML_FALSE);
}

static void begun(void *data, const char *name, const char **attributes)
{
    struct reading *reading = data;
    (void)attributes;
    if (++reading->depth > DEPTH_MAX) {
        stop(reading);
        return;
    }
    text_copy(reading->parent[reading->depth], sizeof reading->parent[0], name);
    reading->used = 0;
    reading->too_long = 0;
}

static void ended(void *data, const char *name)
{
    struct reading *reading = data;
    reading->text[reading->used] = '\0';
    if (!reading->bad && reading->depth >= 1)
        reading->take(reading, reading->parent[reading->depth - 1], name);
    reading->depth--;
    reading->used = 0;
}

static void words(void *data, const char *text, int length)
{
    struct reading *reading = data;
    size_t n = (size_t)length, room = TEXT_MAX - reading->used;
    if (n > room) {
        reading->too_long = 1;
        n = room;
    }
    memcpy(reading->text + reading->used, text, n);
    reading->used += n;
}

static void doctype(void *data, const char *name, const char *system, const char *public, int internal)
{
    (void)name, (void)system, (void)public, (void)internal;
    stop(data);
}

/* Nonzero when it is one whole, well-formed document. */
static int read_xml(struct reading *reading, const char *xml, size_t bytes)
{
    reading->parser = XML_ParserCreate(NULL);
    if (reading->parser == NULL)
        return 0;
    XML_SetUserData(reading->parser, reading);
    XML_SetElementHandler(reading->parser, begun, ended);
    XML_SetCharacterDataHandler(reading->parser, words);
    XML_SetStartDoctypeDeclHandler(reading->parser, doctype);
    int whole = bytes <= INT_MAX && XML_Parse(reading->parser, xml, (int)bytes, XML_TRUE) == XML_STATUS_OK && !reading->bad;
    XML_ParserFree(reading->parser);
    return whole;
}

/* ---- an error ---- */

static void printable(char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            *text = '?';
}

static void take_error(struct reading *reading, const char *parent, const char *name)
{
    struct s3_error *error = reading->to;
    if (strcmp(parent, "Error") != 0)
        return;
    if (strcmp(name, "Code") == 0)
        text_copy(error->code, sizeof error->code, reading->text);
    if (strcmp(name, "Message") == 0)
        text_copy(error->message, sizeof error->message, reading->text);
}

void s3_error_parse(const char *xml, size_t bytes, struct s3_error *ret_error)
{
    struct s3_error error = {{0}, {0}};
    struct reading *reading = mem_alloc(sizeof *reading);
    reading->take = take_error;
    reading->to = &error;
    /* Also of a document that was cut off: its code comes first. */
    (void)read_xml(reading, xml, bytes);
    mem_free(reading);
    printable(error.code);
    printable(error.message);
    *ret_error = error;
}

/* ---- a page of a list ---- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* In place. Nonzero when it is not properly encoded, or holds a NUL. */
static int decode(char *text)
{
    char *to = text;
    for (const char *from = text; *from; from++) {
        if (*from != '%') {
            *to++ = *from == '+' ? ' ' : *from;
            continue;
        }
        int high = hex_value(from[1]), low = high < 0 ? -1 : hex_value(from[2]);
        if (low < 0 || high + low == 0)
            return -1;
        *to++ = (char)(high * 16 + low);
        from += 2;
    }
    *to = '\0';
    return 0;
}

static void take_key(struct reading *reading, struct s3_page *page)
{
    /* Too long for a key of ours: somebody else's. */
    if (!reading->too_long && decode(reading->text) == 0 && strlen(reading->text) <= KEY_MAX)
        strlist_add(&page->keys, reading->text);
}

struct page_reading {
    struct s3_page page;
    int is_list, token_too_long;
};

static void take_page(struct reading *reading, const char *parent, const char *name)
{
    struct page_reading *to = reading->to;
    if (reading->depth == 1)
        to->is_list = strcmp(name, "ListBucketResult") == 0;
    if (strcmp(parent, "Contents") == 0 && strcmp(name, "Key") == 0)
        take_key(reading, &to->page);
    if (strcmp(parent, "ListBucketResult") != 0)
        return;
    if (strcmp(name, "IsTruncated") == 0)
        to->page.truncated = strcmp(reading->text, "true") == 0;
    if (strcmp(name, "NextContinuationToken") == 0) {
        to->token_too_long = reading->used > S3_LIST_TOKEN_MAX;
        text_copy(to->page.next, sizeof to->page.next, reading->text);
    }
}

enum tide_status s3_page_parse(const char *xml, size_t bytes, struct s3_page *ret_page, struct err *err)
{
    struct page_reading to = {0};
    struct reading *reading = mem_alloc(sizeof *reading);
    reading->take = take_page;
    reading->to = &to;
    int whole = read_xml(reading, xml, bytes);
    mem_free(reading);
    if (whole && to.is_list && !to.token_too_long && (!to.page.truncated || to.page.next[0] != '\0')) {
        *ret_page = to.page;
        return TIDE_OK;
    }
    strlist_release(&to.page.keys);
    return err_set(err, TIDE_E_CORRUPT, "the answer to a list of keys is no whole ListBucketResult");
}
