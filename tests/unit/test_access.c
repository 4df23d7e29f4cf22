/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "coordinator/server/inner.h"

/* What must be true of the table of routes, whatever is added to it. */

static bool begins(const char *path, const char *with)
{
    return strncmp(path, with, strlen(with)) == 0;
}

static void everybody_may_call_three_things(void **state)
{
    (void)state;
    static const char *const open[] = {"/healthz", "/v1/version", "/v1/ca"};
    size_t found = 0;
    for (size_t i = 0; i < api_route_count; i++) {
        const struct http_route *route = &api_routes[i];
        bool may = false;
        assert_in_range(route->least, ROLE_NONE, ROLE_ADMIN);
        for (size_t k = 0; k < sizeof open / sizeof open[0]; k++)
            may |= strcmp(route->path, open[k]) == 0 && strcmp(route->method, "GET") == 0;
        if ((route->least == ROLE_NONE) != may)
            fail_msg("%s %s: least role %s", route->method, route->path, role_names[route->least]);
        found += may;
    }
    assert_int_equal(found, sizeof open / sizeof open[0]);
}

static void a_viewer_changes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < api_route_count; i++) {
        const struct http_route *route = &api_routes[i];
        if (strcmp(route->method, "GET") != 0 && role_allows(ROLE_VIEWER, route->least))
            fail_msg("a viewer may %s %s", route->method, route->path);
    }
}

static void agents_have_their_own_calls_and_no_others(void **state)
{
    (void)state;
    size_t found = 0;
    for (size_t i = 0; i < api_route_count; i++) {
        const struct http_route *route = &api_routes[i];
        bool own = begins(route->path, "/v1/agent/");
        if (own != (route->least == ROLE_AGENT))
            fail_msg("%s %s: least role %s", route->method, route->path, role_names[route->least]);
        found += own;
    }
    assert_true(found >= 3);
}

/* Who lets others in, changes the group, or takes all of its state away. */
static void tokens_and_members_are_for_admins(void **state)
{
    (void)state;
    size_t found = 0;
    for (size_t i = 0; i < api_route_count; i++) {
        const struct http_route *route = &api_routes[i];
        bool inner = begins(route->path, "/v1/tokens") || begins(route->path, "/v1/revocations") ||
                     begins(route->path, "/v1/cluster/");
        if (inner && route->least != ROLE_ADMIN)
            fail_msg("%s %s: least role %s", route->method, route->path, role_names[route->least]);
        found += inner;
    }
    assert_true(found >= 12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_may_call_three_things),
        cmocka_unit_test(a_viewer_changes_nothing),
        cmocka_unit_test(agents_have_their_own_calls_and_no_others),
        cmocka_unit_test(tokens_and_members_are_for_admins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
