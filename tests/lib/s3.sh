# SPDX-License-Identifier: Apache-2.0
# A real S3 server on this machine: Ceph's radosgw with one monitor and one OSD, in memory, in a directory of its own. No
# systemd, no keys between the daemons, nothing but loopback and the address it is to be reached at.
#
#     . tests/lib/s3.sh
#     s3_ensure || skip                       # installs the packages; fails where they cannot be had
#     s3_start DIR 127.0.0.1 PORT [PREFIX…]   # PREFIX: a command all daemons run under, for a network namespace
#                                             # where openssl is, $S3_ENDPOINT_TLS with the CA $S3_DIR/ca.pem, too
#     s3_tls_cert NAME EXTENSION              # $S3_DIR/NAME.pem and NAME.key of that CA, for a subjectAltName like IP:127.0.0.1
#     s3_keys                                 # exports AWS_* for the user it made
#     s3_user NAME ACCESS SECRET              # makes another user
#     s3_bucket NAME                          # makes a bucket
#     s3_put NAME/KEY TEXT                    # puts an object
#     s3_there NAME/KEY                       # is there such an object?
#     s3_gone NAME/KEY                        # the bucket says that there is none
#     s3_signal STOP osd                      # also mon, rgw
#     s3_full yes                             # what it holds is too much from now on; no: it is not any more
#     s3_stop
# shellcheck shell=bash

S3_READY_S=40                # each step of the start
S3_MEMORY=$((2 << 30))       # that much the OSD may hold
S3_ACCESS=AKIATESTKEY000000001
S3_SECRET='testsecret/with+special=chars0123456789A'
S3_LIB_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/lib/deps.sh
. "$S3_LIB_DIR/deps.sh"

s3_say()
{
    echo "s3: $*" >&2
}

s3_ensure()
{
    local tool gone=''
    deps_ensure s3 >&2
    for tool in radosgw radosgw-admin ceph ceph-mon ceph-osd ceph-authtool; do
        command -v "$tool" >/dev/null || gone="$gone $tool"
    done
    [ -z "$gone" ] || { s3_say "missing:$gone"; return 1; }
}

# s3_await DAEMON COMMAND…
s3_await()
{
    local daemon=$1 deadline=$((SECONDS + S3_READY_S))
    shift
    until "$@" >/dev/null 2>&1; do
        if ! kill -0 "${S3_PID[$daemon]}" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
            s3_say "$daemon does not get ready: $*"
            tail -n 15 "$S3_DIR"/log/*.out >&2
            return 1
        fi
        sleep 0.1
    done
}

# s3_spawn DAEMON COMMAND…: in a session of its own, so that a ^C ends the script first.
declare -A S3_PID
s3_spawn()
{
    local daemon=$1
    shift
    setsid "${S3_IN[@]}" "$@" </dev/null >"$S3_DIR/log/$daemon.out" 2>&1 &
    S3_PID[$daemon]=$!
    disown
}

s3_in()
{
    "${S3_IN[@]}" timeout "$S3_READY_S" "$@"
}

s3_ceph()
{
    s3_in ceph -c "$S3_CONF" --connect-timeout 5 "$@"
}

s3_osd_up()
{
    s3_ceph osd stat | grep -q ' 1 up'
}

s3_answers()
{
    s3_in curl -sS -m 5 -o "$S3_DIR/log/answer" "$S3_ENDPOINT/"
}

s3_conf()
{
    cat <<CONF
[global]
fsid = $1
mon_host = v2:127.0.0.1:$((S3_PORT + 1))
public_network = 127.0.0.0/8
cluster_network = 127.0.0.0/8
ms_bind_ipv4 = true
ms_bind_ipv6 = false
ms_bind_msgr1 = false
ms_bind_msgr2 = true
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
admin_socket = $S3_DIR/run/\$name.asok
pid_file = $S3_DIR/run/\$name.pid
log_file = $S3_DIR/log/\$name.log
run_dir = $S3_DIR/run
crash_dir = $S3_DIR/crash
keyring = $S3_DIR/keyring
heartbeat_file =
setuser_match_path =
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pgp_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 2000
mon_pg_warn_min_per_osd = 0
debug_ms = 0/0
[mon]
mon_data = $S3_DIR/mon
mon_data_avail_crit = 1
mon_data_avail_warn = 2
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_cluster_log_file = $S3_DIR/log/cluster.log
[osd]
osd_data = $S3_DIR/osd
osd_objectstore = memstore
memstore_device_bytes = $S3_MEMORY
memstore_page_size = 1048576
osd_memory_target = 1073741824
osd_max_object_name_len = 2048
osd_max_scrubs = 0
ms_async_op_threads = 2
[client]
ms_mon_client_mode = crc
rgw_frontends = beast endpoint=$S3_HOST:$S3_PORT${S3_TLS:-}
rgw_data = $S3_DIR/rgw
rgw_enable_usage_log = false
rgw_enable_ops_log = false
rgw_override_bucket_index_max_shards = 1
rgw_dynamic_resharding = false
rgw_thread_pool_size = 64
CONF
}

s3_start_mon()
{
    local fsid=$1
    printf '[mon.]\n\tkey = %s\n\tcaps mon = "allow *"\n' "$(ceph-authtool --gen-print-key)" >"$S3_DIR/keyring"
    s3_in ceph-mon -i a -c "$S3_CONF" --mkfs --fsid "$fsid" --keyring "$S3_DIR/keyring" \
        --public-addr "v2:127.0.0.1:$((S3_PORT + 1))" >"$S3_DIR/log/mkfs.out" 2>&1 || return 1
    s3_spawn mon ceph-mon -f -i a -c "$S3_CONF" --public-addr "v2:127.0.0.1:$((S3_PORT + 1))"
    s3_await mon s3_ceph mon stat
}

s3_start_osd()
{
    local uuid=$1
    s3_ceph osd new "$uuid" >"$S3_DIR/log/new.out" 2>&1 &&
        s3_in ceph-osd -i 0 -c "$S3_CONF" --mkfs --osd-uuid "$uuid" >"$S3_DIR/log/osd-mkfs.out" 2>&1 || return 1
    s3_spawn osd ceph-osd -f -i 0 -c "$S3_CONF"
    s3_await osd s3_osd_up
}

s3_start_rgw()
{
    s3_spawn rgw radosgw -f -n client.rgw.a -c "$S3_CONF"
    s3_await rgw s3_answers
}

s3_tls_cert()
{
    (cd "$S3_DIR" && openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=s3 -keyout "$1.key" -out "$1.csr" &&
        openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out "$1.pem" \
            -extfile <(echo "subjectAltName=$2")) >>"$S3_DIR/log/tls.out" 2>&1
}

s3_tls()
{
    (cd "$S3_DIR" && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=s3-ca -keyout ca.key -out ca.pem \
        -addext basicConstraints=critical,CA:TRUE) >"$S3_DIR/log/tls.out" 2>&1 && s3_tls_cert server "IP:$S3_HOST" || return 1
    S3_TLS=" ssl_endpoint=$S3_HOST:$((S3_PORT + 3)) ssl_certificate=$S3_DIR/server.pem ssl_private_key=$S3_DIR/server.key"
    # shellcheck disable=SC2034 # for the scripts
    S3_ENDPOINT_TLS=https://$S3_HOST:$((S3_PORT + 3))
}

# s3_start DIR HOST PORT [PREFIX…]: DIR is made, and removed by s3_stop. The next three ports are used too.
s3_start()
{
    S3_DIR=$1 S3_HOST=$2 S3_PORT=$3
    shift 3
    S3_IN=("$@")
    [ ${#S3_IN[@]} -gt 0 ] || S3_IN=(env)
    S3_CONF=$S3_DIR/ceph.conf
    S3_ENDPOINT=http://$S3_HOST:$S3_PORT
    local fsid
    fsid=$(cat /proc/sys/kernel/random/uuid)
    mkdir "$S3_DIR" && mkdir "$S3_DIR"/{mon,osd,rgw,run,log,crash} || return 1
    ! command -v openssl >/dev/null || s3_tls || return 1
    s3_conf "$fsid" >"$S3_CONF" &&
        s3_start_mon "$fsid" && s3_start_osd "$(cat /proc/sys/kernel/random/uuid)" && s3_start_rgw &&
        s3_user test "$S3_ACCESS" "$S3_SECRET"
}

# s3_user NAME ACCESS SECRET
s3_user()
{
    s3_in radosgw-admin -c "$S3_CONF" user create --uid="$1" --display-name="$1" --access-key="$2" --secret-key="$3" \
        >"$S3_DIR/log/user-$1.out" 2>&1
}

s3_keys()
{
    export AWS_ACCESS_KEY_ID=$S3_ACCESS AWS_SECRET_ACCESS_KEY=$S3_SECRET AWS_REGION=us-east-1
    unset AWS_SESSION_TOKEN AWS_PROFILE AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3 AWS_CA_BUNDLE
}

# curl's own signatures are good enough for that.
s3_bucket()
{
    s3_in curl -sSf -m 20 -o "$S3_DIR/log/answer" -X PUT --aws-sigv4 aws:amz:us-east-1:s3 --user "$S3_ACCESS:$S3_SECRET" \
        -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" "$S3_ENDPOINT/$1"
}

# s3_put BUCKET/KEY TEXT
s3_put()
{
    s3_in curl -sSf -m 20 -o "$S3_DIR/log/answer" -X PUT --data-binary "$2" --aws-sigv4 aws:amz:us-east-1:s3 --user "$S3_ACCESS:$S3_SECRET" \
        -H "Content-Type: application/octet-stream" -H "x-amz-content-sha256: $(printf %s "$2" | sha256sum | cut -d ' ' -f 1)" "$S3_ENDPOINT/$1"
}

# s3_status BUCKET/KEY: what it answers to who wants the object; 000: nothing.
s3_status()
{
    s3_in curl -sS -m 20 -o "$S3_DIR/log/answer" -w '%{http_code}' --aws-sigv4 aws:amz:us-east-1:s3 --user "$S3_ACCESS:$S3_SECRET" \
        -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" "$S3_ENDPOINT/$1"
}

s3_there()
{
    [ "$(s3_status "$1")" = 200 ]
}

s3_gone()
{
    [ "$(s3_status "$1")" = 404 ]
}

s3_signal()
{
    kill "-$1" "${S3_PID[$2]}"
}

# By the marks above which it counts as full: whatever it holds is more, or nothing is.
s3_full()
{
    local marks=(full:0.95 backfillfull:0.9 nearfull:0.85) mark
    [ "$1" = no ] || marks=(nearfull:0.0001 backfillfull:0.0002 full:0.0003)
    for mark in "${marks[@]}"; do
        s3_ceph osd "set-${mark%:*}-ratio" "${mark#*:}" >"$S3_DIR/log/full.out" 2>&1 || return 1
    done
}

s3_is_full()
{
    s3_ceph health detail 2>/dev/null | grep -q 'osd.0 is full'
}

s3_ended()
{
    ! kill -0 "$1" 2>/dev/null
}

s3_stop()
{
    local daemon i
    for daemon in rgw osd mon; do
        [ -n "${S3_PID[$daemon]:-}" ] || continue
        kill -9 "${S3_PID[$daemon]}" 2>/dev/null
        for ((i = 0; i < 100; i++)); do
            s3_ended "${S3_PID[$daemon]}" && break
            sleep 0.05
        done
        unset "S3_PID[$daemon]"
    done
    [ -z "${S3_DIR:-}" ] || rm -rf -- "$S3_DIR"
}
