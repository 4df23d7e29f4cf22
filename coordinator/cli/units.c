/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/units.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECOND UINT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define DIGITS_MAX 15 /* of a number with its decimals: far from any overflow */

static const struct {
    const char *name;
    uint64_t ms;
} units[] = {{"ms", 1}, {"s", SECOND}, {"sec", SECOND}, {"m", MINUTE}, {"min", MINUTE}, {"h", HOUR}, {"d", DAY}};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static uint64_t unit_ms(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strlen(units[i].name) == n && strncmp(units[i].name, name, n) == 0)
            return units[i].ms;
    return 0;
}

/* One "1.5s" at *at; moves *at behind it. Zero or more: 0 is a fine number. */
static bool take_part(const char **at, uint64_t *ret_ms)
{
    const char *p = *at;
    uint64_t number = 0, scale = 1;
    unsigned digits = 0;
    for (; is_digit(*p); p++, digits++)
        number = digits < DIGITS_MAX ? number * 10 + (uint64_t)(*p - '0') : number;
    if (digits == 0 || digits > DIGITS_MAX)
        return false;
    if (*p == '.') {
        const char *first = ++p;
        for (; is_digit(*p); p++) {
            if (++digits > DIGITS_MAX || scale >= SECOND)
                return false;
            number = number * 10 + (uint64_t)(*p - '0');
            scale *= 10;
        }
        if (p == first)
            return false;
    }
    size_t n = strcspn(p, "0123456789.");
    uint64_t ms = unit_ms(p, n);
    if (ms == 0 || number / scale > DURATION_MS_MAX / ms)
        return false;
    *ret_ms = number * ms / scale;
    *at = p + n;
    return true;
}

enum tide_status duration_parse(const char *text, uint64_t *ret_ms, struct err *err)
{
    uint64_t total = 0;
    const char *at = text;
    if (strcmp(text, "0") == 0) {
        *ret_ms = 0;
        return TIDE_OK;
    }
    if (*text != '\0' && strspn(text, "0123456789.") == strlen(text))
        return err_set(err, TIDE_E_INVALID, "\"%.40s\" has no unit; write %.40ss, %.40sm or %.40sms", text, text, text,
                       text);
    do {
        uint64_t part;
        if (!take_part(&at, &part) || total + part > DURATION_MS_MAX)
            return err_set(err, TIDE_E_INVALID,
                           "\"%.40s\" is not a duration; write for example 500ms, 5s, 2m, 1h30m (at most 365d)", text);
        total += part;
    } while (*at != '\0');
    *ret_ms = total;
    return TIDE_OK;
}

enum tide_status number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number, struct err *err)
{
    uint64_t number = 0;
    size_t n = strspn(text, "0123456789");
    bool fits = n > 0 && n <= 19 && text[n] == '\0';
    for (size_t i = 0; fits && i < n; i++)
        number = number * 10 + (uint64_t)(text[i] - '0');
    if (!fits || number < min || number > max)
        return err_set(err, TIDE_E_INVALID, "\"%.40s\" is not a number from %" PRIu64 " to %" PRIu64, text, min, max);
    *ret_number = number;
    return TIDE_OK;
}

const char *duration_text(uint64_t ms, char *to)
{
    if (ms < SECOND)
        snprintf(to, UNIT_TEXT_MAX, "%" PRIu64 " ms", ms);
    else if (ms < MINUTE - 50) /* 59.95 s would print as 60.0 */
        snprintf(to, UNIT_TEXT_MAX, "%.1f s", (double)ms / 1000);
    else if (ms < HOUR)
        snprintf(to, UNIT_TEXT_MAX, "%" PRIu64 "m %02" PRIu64 "s", (ms + 50) / MINUTE, (ms + 50) % MINUTE / SECOND);
    else if (ms < DAY)
        snprintf(to, UNIT_TEXT_MAX, "%" PRIu64 "h %02" PRIu64 "m", ms / HOUR, ms % HOUR / MINUTE);
    else
        snprintf(to, UNIT_TEXT_MAX, "%" PRIu64 "d %02" PRIu64 "h", ms / DAY, ms % DAY / HOUR);
    return to;
}

const char *stall_text(uint64_t us, char *to)
{
    if (us < 1000)
        snprintf(to, UNIT_TEXT_MAX, "%" PRIu64 " us", us);
    else if (us < 100000)
        snprintf(to, UNIT_TEXT_MAX, "%.1f ms", (double)us / 1000);
    else
        duration_text(us / 1000, to);
    return to;
}

const char *size_text(uint64_t bytes, char *to)
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double size = (double)bytes;
    unsigned unit = 0;
    while (size >= 999.5 && unit + 1 < sizeof names / sizeof names[0]) {
        size /= 1024;
        unit++;
    }
    if (unit == 0)
        snprintf(to, UNIT_TEXT_MAX, "%" PRIu64 " B", bytes);
    else
        snprintf(to, UNIT_TEXT_MAX, size < 9.95 ? "%.1f %s" : "%.0f %s", size, names[unit]);
    return to;
}

const char *age_text(uint64_t now_ms, uint64_t at_ms, char *to)
{
    uint64_t ms = now_ms > at_ms ? now_ms - at_ms : 0;
    if (at_ms == 0)
        snprintf(to, UNIT_TEXT_MAX, "-");
    else if (ms < SECOND)
        snprintf(to, UNIT_TEXT_MAX, "now");
    else if (ms < MINUTE)
        snprintf(to, UNIT_TEXT_MAX, "%" PRIu64 "s ago", ms / SECOND);
    else if (ms < HOUR)
        snprintf(to, UNIT_TEXT_MAX, "%" PRIu64 "m ago", ms / MINUTE);
    else if (ms < DAY)
        snprintf(to, UNIT_TEXT_MAX, "%" PRIu64 "h ago", ms / HOUR);
    else
        snprintf(to, UNIT_TEXT_MAX, "%" PRIu64 "d ago", ms / DAY);
    return to;
}

const char *clock_text(uint64_t at_ms, char *to)
{
    if (at_ms == 0) {
        snprintf(to, UNIT_TEXT_MAX, "-");
        return to;
    }
    time_t seconds = (time_t)(at_ms / SECOND);
    struct tm local;
    localtime_r(&seconds, &local);
    strftime(to, UNIT_TEXT_MAX, "%Y-%m-%d %H:%M:%S", &local);
    return to;
}
