/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
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

/* The links of network interfaces, as the kernel tells them. Its descriptor never blocks. */

#define NETLINK_ROOM 16384u
#define NETLINK_TURN_MAX 1024u /* datagrams of one turn of the loop */

/* ---- which of them ---- */

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
    char device[128], path[WATCH_PATH_MAX];
    if (watch->options.nics[0] != '\0')
        return named(watch->options.nics, name);
    snprintf(device, sizeof device, "/sys/class/net/%.63s/device", name);
    watch_path(watch, device, path);
    return access(path, F_OK) == 0;
}

/* Has it the address that ranks of other nodes are told? */
static bool has_address(const char *name, const char *address)
{
    struct ifaddrs *all = NULL;
    bool found = false;
    if (getifaddrs(&all) != 0)
        return false;
    for (const struct ifaddrs *i = all; i != NULL && !found; i = i->ifa_next) {
        char text[INET6_ADDRSTRLEN] = "";
        if (i->ifa_addr == NULL || strcmp(i->ifa_name, name) != 0)
            continue;
        if (i->ifa_addr->sa_family == AF_INET)
            inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)i->ifa_addr)->sin_addr, text, sizeof text);
        else if (i->ifa_addr->sa_family == AF_INET6)
            inet_ntop(AF_INET6, &((struct sockaddr_in6 *)(void *)i->ifa_addr)->sin6_addr, text, sizeof text);
        found = text[0] != '\0' && strcmp(text, address) == 0;
    }
    freeifaddrs(all);
    return found;
}

/* One that is down may have lost its address: then it is as needed as it was. */
static bool needed(const struct watch *watch, const struct nic_past *nic, bool up)
{
    if (watch->options.nics[0] != '\0')
        return true;
    return has_address(nic->name, watch->options.address) || (!up && nic->needed);
}

/* ---- one of them ---- */

static void nic_is(struct watch *watch, size_t nic, bool up)
{
    uint64_t now_ns = clock_mono_ns();
    struct finding finding;
    uint64_t since_ns = watch->nics[nic].down_ns;
    watch->nics[nic].needed = needed(watch, &watch->nics[nic], up);
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

/* It has another name now: nothing is known of the old one. */
static void nic_forget(struct watch *watch, size_t nic)
{
    struct finding finding = {.probe = "nic"};
    text_copy(finding.subject, sizeof finding.subject, watch->nics[nic].name);
    watch_take(watch, &finding, clock_mono_ns());
    watch->nic_count--;
    watch->nics[nic] = watch->nics[watch->nic_count];
    watch->nic_at[nic] = watch->nic_at[watch->nic_count];
}

/* By its name: a driver that is loaded anew makes the same interface with another index. nic_count: it is none of ours. */
static size_t nic_of(struct watch *watch, int index, const char *name, bool there)
{
    size_t i = 0;
    while (i < watch->nic_count && (name == NULL || strcmp(watch->nics[i].name, name) != 0))
        i++;
    size_t k = 0;
    while (k < watch->nic_count && watch->nic_at[k].index != index)
        k++;
    if (i < watch->nic_count || name == NULL)
        return i < watch->nic_count ? i : k;
    if (k < watch->nic_count)
        nic_forget(watch, k);
    if (!there || watch->nic_count == WATCH_NICS_MAX || !watched(watch, name))
        return watch->nic_count;
    i = watch->nic_count++;
    watch->nics[i] = (struct nic_past){0};
    text_copy(watch->nics[i].name, sizeof watch->nics[i].name, name);
    return i;
}

/* ---- what the kernel says ---- */

static const char *name_of(const struct nlmsghdr *head, const struct ifinfomsg *info)
{
    int left = (int)IFLA_PAYLOAD(head);
    for (const struct rtattr *at = IFLA_RTA(info); RTA_OK(at, left);) {
        if (at->rta_type == IFLA_IFNAME && memchr(RTA_DATA(at), '\0', RTA_PAYLOAD(at)) != NULL)
            return RTA_DATA(at);
        int bytes = (int)RTA_ALIGN(at->rta_len);
        left -= bytes;
        at = (const struct rtattr *)((const char *)at + bytes);
    }
    return NULL;
}

static void on_link(struct watch *watch, const struct nlmsghdr *head)
{
    const struct ifinfomsg *info = NLMSG_DATA(head);
    if (head->nlmsg_len < NLMSG_LENGTH(sizeof *info))
        return;
    /* AF_BRIDGE: what it is as a port of a bridge. That it leaves one is told as DELLINK, and it is still there. */
    if (info->ifi_family != AF_UNSPEC)
        return;
    bool there = head->nlmsg_type == RTM_NEWLINK;
    size_t nic = nic_of(watch, info->ifi_index, name_of(head, info), there);
    if (nic >= watch->nic_count)
        return;
    watch->nic_at[nic].index = info->ifi_index;
    watch->nic_at[nic].listed = watch->nic_at[nic].listed || head->nlmsg_seq == watch->dump;
    nic_is(watch, nic, there && (info->ifi_flags & IFF_UP) && (info->ifi_flags & IFF_RUNNING));
}

/* Who was not in it is not there any more. */
static void on_dumped(struct watch *watch)
{
    for (size_t i = 0; i < watch->nic_count; i++)
        if (!watch->nic_at[i].listed)
            nic_is(watch, i, false);
}

bool nics_hear(struct watch *watch, const void *bytes, size_t count)
{
    unsigned left = (unsigned)count;
    bool lost = false;
    for (const struct nlmsghdr *head = bytes; NLMSG_OK(head, left); head = NLMSG_NEXT(head, left)) {
        bool ours = head->nlmsg_seq == watch->dump && watch->dump != 0;
        const struct nlmsgerr *error = NLMSG_DATA(head);
        if (head->nlmsg_type == RTM_NEWLINK || head->nlmsg_type == RTM_DELLINK)
            on_link(watch, head);
        else if (head->nlmsg_type == NLMSG_DONE && ours)
            on_dumped(watch);
        else if (head->nlmsg_type == NLMSG_ERROR && ours && head->nlmsg_len >= NLMSG_LENGTH(sizeof *error))
            lost = lost || error->error == -EBUSY; /* the one before is not done yet */
        lost = lost || (ours && (head->nlmsg_flags & NLM_F_DUMP_INTR));
    }
    return lost;
}

static void ask_all(struct watch *watch)
{
    struct {
        struct nlmsghdr head;
        struct ifinfomsg info;
    } all = {.head = {.nlmsg_len = sizeof all,
                      .nlmsg_type = RTM_GETLINK,
                      .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                      .nlmsg_seq = ++watch->dump}};
    for (size_t i = 0; i < watch->nic_count; i++)
        watch->nic_at[i].listed = false;
    if (send(watch->netlink, &all, sizeof all, 0) < 0)
        log_warn("health: the kernel does not tell the state of network interfaces");
}

void nics_ready(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    _Alignas(struct nlmsghdr) char bytes[NETLINK_ROOM];
    bool lost = status < 0;
    (void)events;
    for (unsigned i = 0; i < NETLINK_TURN_MAX; i++) {
        ssize_t n = recv(watch->netlink, bytes, sizeof bytes, 0);
        if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
            log_warn("health: network interfaces are not watched any more: netlink cannot be read");
            uv_poll_stop(poll);
            return;
        }
        if (n < 0 && errno == EAGAIN)
            break;
        lost = (n < 0 && errno == ENOBUFS) || lost; /* messages were lost: what is the state now? */
        if (n > 0)
            lost = nics_hear(watch, bytes, (size_t)n) || lost;
    }
    /* That messages were lost is an error to libuv, which stops watching. */
    if (status < 0)
        uv_poll_start(poll, UV_READABLE, nics_ready);
    if (lost)
        ask_all(watch);
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
    uv_poll_start(&watch->netlink_poll, UV_READABLE, nics_ready);
    ask_all(watch);
}
