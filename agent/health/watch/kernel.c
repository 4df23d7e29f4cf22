/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/health/watch/inner.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

/* What the kernel tells by itself: its log, and the links of network interfaces. Both descriptors never block. */

#define KMSG_PATH "/dev/kmsg"
#define KMSG_TURN_MAX 256u /* records of one turn of the loop */
#define NETLINK_ROOM 16384u

/* ---- its log ---- */

static void on_kmsg(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    char record[KMSG_RECORD_MAX];
    (void)status, (void)events;
    for (unsigned i = 0; i < KMSG_TURN_MAX; i++) {
        ssize_t n = read(watch->kmsg, record, sizeof record);
        if (n < 0 && errno == EPIPE) /* some were overwritten before they were read */
            continue;
        if (n <= 0)
            return;
        struct finding finding;
        if (kmsg_judge(record, (size_t)n, &finding))
            watch_take(watch, &finding, clock_mono_ns());
    }
}

void kernel_open(struct watch *watch)
{
    /* From now on: what was before is not known to be so still. */
    watch->kmsg = open(KMSG_PATH, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (watch->kmsg < 0 || lseek(watch->kmsg, 0, SEEK_END) < 0 || uv_poll_init(watch->loop, &watch->kmsg_poll, watch->kmsg) != 0) {
        log_info("health: the kernel's log is not watched: " KMSG_PATH " cannot be read by this user");
        if (watch->kmsg >= 0)
            close(watch->kmsg);
        watch->kmsg = -1;
        return;
    }
    watch->kmsg_poll.data = watch;
    uv_poll_start(&watch->kmsg_poll, UV_READABLE, on_kmsg);
}

/* ---- links ---- */

static bool named(const char *list, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = list; *at != '\0'; at += at[strcspn(at, ",")] == ',' ? strcspn(at, ",") + 1 : strcspn(at, ","))
        if (strcspn(at, ",") == n && strncmp(at, name, n) == 0)
            return true;
    return false;
}

/* What is made of software comes and goes: bridges, containers. */
static bool watched(const struct watch *watch, const char *name)
{
    char path[128];
    if (watch->options.nics[0] != '\0')
        return named(watch->options.nics, name);
    snprintf(path, sizeof path, "/sys/class/net/%.63s/device", name);
    return access(path, F_OK) == 0;
}

static size_t nic_of(struct watch *watch, int index, const char *name)
{
    size_t i = 0;
    while (i < watch->nic_count && watch->nic_index[i] != index)
        i++;
    if (i < watch->nic_count || name == NULL || i == WATCH_NICS_MAX || !watched(watch, name))
        return i;
    watch->nics[i] = (struct nic_past){0};
    text_copy(watch->nics[i].name, sizeof watch->nics[i].name, name);
    watch->nic_index[i] = index;
    watch->nic_count++;
    return i;
}

static void nic_is(struct watch *watch, size_t nic, bool up)
{
    uint64_t now_ns = clock_mono_ns();
    struct finding finding;
    uint64_t since_ns = watch->nics[nic].down_ns;
    nic_judge(&watch->nics[nic], up, now_ns, &finding);
    if (finding.probe != NULL)
        watch_take(watch, &finding, since_ns != 0 ? since_ns : now_ns);
    nics_wait(watch);
}

static void on_nic_timer(uv_timer_t *timer)
{
    struct watch *watch = timer->data;
    for (size_t i = 0; i < watch->nic_count; i++)
        if (nic_wait_ms(&watch->nics[i], clock_mono_ns()) > 0)
            nic_is(watch, i, watch->nics[i].up);
}

void nics_wait(struct watch *watch)
{
    uint64_t least_ms = 0, now_ns = clock_mono_ns();
    for (size_t i = 0; i < watch->nic_count; i++) {
        uint64_t ms = nic_wait_ms(&watch->nics[i], now_ns);
        if (ms > 0 && (least_ms == 0 || ms < least_ms))
            least_ms = ms;
    }
    if (least_ms > 0)
        uv_timer_start(&watch->nic_timer, on_nic_timer, least_ms, 0);
    else
        uv_timer_stop(&watch->nic_timer);
}

static const char *name_of(struct nlmsghdr *head, struct ifinfomsg *info)
{
    int left = (int)IFLA_PAYLOAD(head);
    for (struct rtattr *at = IFLA_RTA(info); RTA_OK(at, left);) {
        if (at->rta_type == IFLA_IFNAME && memchr(RTA_DATA(at), '\0', RTA_PAYLOAD(at)) != NULL)
            return RTA_DATA(at);
        int bytes = (int)RTA_ALIGN(at->rta_len);
        left -= bytes;
        at = (struct rtattr *)((char *)at + bytes);
    }
    return NULL;
}

static void on_message(struct watch *watch, struct nlmsghdr *head)
{
    if ((head->nlmsg_type != RTM_NEWLINK && head->nlmsg_type != RTM_DELLINK) || head->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)))
        return;
    struct ifinfomsg *info = NLMSG_DATA(head);
    bool there = head->nlmsg_type == RTM_NEWLINK;
    size_t nic = nic_of(watch, info->ifi_index, there ? name_of(head, info) : NULL);
    if (nic < watch->nic_count)
        nic_is(watch, nic, there && (info->ifi_flags & IFF_UP) && (info->ifi_flags & IFF_RUNNING));
}

static void ask_all(struct watch *watch)
{
    struct {
        struct nlmsghdr head;
        struct ifinfomsg info;
    } all = {.head = {.nlmsg_len = sizeof all, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
    if (send(watch->netlink, &all, sizeof all, 0) < 0)
        log_warn("health: the kernel does not tell the state of network interfaces");
}

static void on_netlink(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    _Alignas(struct nlmsghdr) char bytes[NETLINK_ROOM];
    (void)status, (void)events;
    for (;;) {
        ssize_t n = recv(watch->netlink, bytes, sizeof bytes, 0);
        if (n < 0 && errno == ENOBUFS) { /* messages were lost: what is the state now? */
            ask_all(watch);
            continue;
        }
        if (n <= 0)
            return;
        unsigned left = (unsigned)n;
        for (struct nlmsghdr *head = (struct nlmsghdr *)bytes; NLMSG_OK(head, left); head = NLMSG_NEXT(head, left))
            on_message(watch, head);
    }
}

void nics_open(struct watch *watch)
{
    struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    watch->netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (watch->netlink < 0 || bind(watch->netlink, (struct sockaddr *)&to, sizeof to) != 0 ||
        uv_poll_init(watch->loop, &watch->netlink_poll, watch->netlink) != 0) {
        log_info("health: network interfaces are not watched: there is no netlink");
        if (watch->netlink >= 0)
            close(watch->netlink);
        watch->netlink = -1;
        return;
    }
    watch->netlink_poll.data = watch;
    uv_poll_start(&watch->netlink_poll, UV_READABLE, on_netlink);
    ask_all(watch);
}
