#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Who may do what: a coordinator with certificates, every role at every route, tokens, join tokens, redirects.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

TIDEMARKD=$SCENARIO_BUILD/bin/tidemarkd
TIDEMARK=$SCENARIO_BUILD/bin/tidemark
AGENT=$SCENARIO_BUILD/bin/tidemark-agent
REFUSALS=200 # in a row
LOGGED_A_SECOND=10 # the rest is counted
WORK=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-access.XXXXXX")
DATA=$WORK/data
CLUSTER=$WORK/cluster
BODY=$WORK/body
PID=0
THREE=()
unset TIDEMARK_COORDINATOR TIDEMARK_IDENTITY TIDEMARK_TOKEN TIDEMARK_CACERT TIDEMARK_JOIN_TOKEN

cleanup()
{
    local pid
    for pid in $(jobs -p); do
        kill -9 "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    rm -rf "$WORK"
}
trap cleanup EXIT

# ---- words ----

daemon_start()
{
    "$TIDEMARKD" --data "$DATA" --identity "$CLUSTER/member-1" --listen "${ADDRESS:-127.0.0.1:0}" 2>>"$WORK/log" &
    PID=$!
    wait_for 60 "the coordinator to answer" daemon_healthy
}

daemon_healthy()
{
    kill -0 "$PID" 2>/dev/null || { echo "it died"; tail -3 "$WORK/log"; return 1; }
    [ -s "$DATA/address" ] && ADDRESS=$(<"$DATA/address") &&
        [ "$(curl -sS -m 5 --cacert "$CLUSTER/ca.pem" "https://$ADDRESS/healthz" 2>/dev/null)" = ok ]
}

daemon_stop()
{
    kill -TERM "$PID" && timeout 60 tail --pid="$PID" -f /dev/null && wait "$PID"
}

# as IDENTITY: curl's options for the certificate of a directory in $CLUSTER.
as()
{
    echo --cert "$CLUSTER/$1/cert.pem" --key "$CLUSTER/$1/key.pem"
}

# ask METHOD PATH [CURL OPTION…]: HTTP status on stdout, body in $BODY.
ask()
{
    local method=$1 path=$2
    shift 2
    curl -sS -m 20 --cacert "$CLUSTER/ca.pem" -o "$BODY" -w '%{http_code}' -X "$method" "https://$ADDRESS$path" "$@"
}

# answers CODE WORDS METHOD PATH [CURL OPTION…]
answers()
{
    local code=$1 words=$2 got
    shift 2
    got=$(ask "$@")
    [ "$got" = "$code" ] && grep -qF -- "$words" "$BODY" || { echo "status $got, body $(head -c 400 "$BODY")"; return 1; }
}

# tm [OPTION…]: the CLI as admin, unless told otherwise.
tm()
{
    TIDEMARK_IDENTITY="${WHO-$CLUSTER/admin}" TIDEMARK_COORDINATOR=https://$ADDRESS timeout 60 "$TIDEMARK" "$@"
}

# fails WORDS COMMAND…
fails()
{
    local words=$1 output
    shift
    output=$("$@" 2>&1) && { echo "it did not fail: $output"; return 1; }
    grep -qF -- "$words" <<<"$output" || { echo "nothing about '$words' in: $output"; return 1; }
}

# ---- a cluster of one ----

expect "cluster init makes the directories" "$TIDEMARK" cluster init --dir "$CLUSTER" 127.0.0.1
"$TIDEMARK" cluster init --dir "$WORK/other" 127.0.0.1 >/dev/null
for role in viewer operator; do
    expect "issue a $role" "$TIDEMARK" cluster issue --dir "$CLUSTER" client "$role" --role "$role"
done
expect "issue an agent of one node" "$TIDEMARK" cluster issue --dir "$CLUSTER" agent n1
expect "no key may be read by others" equal \
    "$(find "$CLUSTER" \( -name '*.key' -o -name key.pem -o -name join-token \) -perm /077)" ""
expect "the coordinator starts" daemon_start || exit 1
expect "the CLI finds the leader by its identity" says "$(jq -r .cluster "$CLUSTER/cluster.json")" tm cluster status -o json
expect "plain HTTP is not answered" fails "" curl -sS -m 5 -f "http://$ADDRESS/healthz"
expect "and the CLI says that it is HTTPS" fails "with certificates it is https://" \
    "$TIDEMARK" --coordinator "http://$ADDRESS" cluster status --timeout 2s
# shellcheck disable=SC2046 # two words each
expect "a member without certificates is not added" answers 400 "as https://host:port" POST /v1/cluster/members $(as admin) \
    -d '{"id":9,"peer":"127.0.0.1:9","api":"http://127.0.0.1:8"}'
# shellcheck disable=SC2046 # two words each
expect "nor one whose API is at no address" answers 400 "as https://host:port" POST /v1/cluster/members $(as admin) \
    -d '{"id":9,"peer":"127.0.0.1:9","api":"https://127.0.0.1:8/v1"}'
expect "nor is TLS 1.2" fails "" curl -sS -m 5 --tls-max 1.2 --cacert "$CLUSTER/ca.pem" "https://$ADDRESS/healthz"
expect "the CA is shown to everybody" answers 200 "BEGIN CERTIFICATE" GET /v1/ca
expect "and is the cluster's" cmp "$BODY" "$CLUSTER/ca.pem"

# ---- every role at every route ----

# What the table of routes says, as "METHOD PATH ROLE", with a value for each {word}.
routes()
{
    sed -n 's/^    {"\([A-Z]*\)", "\([^"]*\)", [a-z_]*, ROLE_\([A-Z]*\)},$/\1 \2 \3/p' \
        "$SCENARIO_ROOT"/coordinator/server/api*.c | sed 's/{[a-z]*}/x1/g' | sort -u
}

# may ROLE LEAST: as the issue says it: viewer < operator < admin, and agents beside them.
may()
{
    local ranks=" VIEWER OPERATOR ADMIN " has least
    [ "$2" = NONE ] && return 0
    [ "$1" = AGENT ] || [ "$2" = AGENT ] && { [ "$1" = "$2" ]; return; }
    [ "$1" = NONE ] && return 1
    has=${ranks%%" $1 "*} least=${ranks%%" $2 "*}
    [ ${#has} -ge ${#least} ]
}

# try_routes ROLE CURL-OPTION…
try_routes()
{
    local role=$1 method path least got bad=0 count=0
    shift
    while read -r method path least; do
        got=$(ask "$method" "$path" "$@")
        count=$((count + 1))
        if may "$role" "$least"; then
            [ "$got" != 401 ] && [ "$got" != 403 ] && [ "$got" != 000 ] && continue
        elif [ "$role" = NONE ]; then
            [ "$got" = 401 ] && continue
        else
            [ "$got" = 403 ] && continue
        fi
        echo "$role: $method $path (least $least): status $got: $(head -c 300 "$BODY")"
        bad=1
    done < <(routes)
    equal "$count" "$(grep -cE '^    \{"(GET|POST|PUT|DELETE)",' <(cat "$SCENARIO_ROOT"/coordinator/server/api*.c))" || return 1
    return $bad
}

declare -A token
expect "nobody may only what everybody may" try_routes NONE
for role in viewer operator admin agent; do
    token[$role]=$(tm token create "the-$role" --role "$role" --expires 1h 2>/dev/null)
    # shellcheck disable=SC2046 # two words each
    expect "a certificate of role $role at every route" try_routes ${role^^} $(as "$(
        case $role in viewer | operator) echo "client-$role" ;; *) echo $role ;; esac)")
    expect "a token of role $role at every route" try_routes ${role^^} -H "Authorization: Bearer ${token[$role]}"
done
# shellcheck disable=SC2046
{
    expect "a token counts more than a certificate" answers 403 "token the-viewer has role viewer" GET /v1/tokens \
        $(as admin) -H "Authorization: Bearer ${token[viewer]}"
    expect "a refusal tells what is needed" answers 403 'this call needs role admin; client operator has role operator' \
        GET /v1/tokens $(as client-operator)
    expect "and what to do" answers 403 'tidemark token create' GET /v1/tokens $(as client-operator)
}
expect "a member's certificate may do everything, too" answers 200 '"name":"join"' GET /v1/tokens \
    --cert "$CLUSTER/member-1/cert.pem" --key "$CLUSTER/member-1/key.pem"

# ---- who is not known ----

expect "no credentials" answers 401 "brought no certificate" GET /v1/jobs
expect "401 says how" answers 401 "TIDEMARK_TOKEN" GET /v1/jobs
expect "401 names the scheme" says "WWW-Authenticate: Bearer" curl -sSi --cacert "$CLUSTER/ca.pem" "https://$ADDRESS/v1/jobs"
expect "another scheme" answers 401 'not \"Bearer TOKEN\"' GET /v1/jobs -u admin:admin
expect "a token of nobody" answers 401 "none of this cluster" GET /v1/jobs -H "Authorization: Bearer tide_0"
expect "an empty token" answers 401 "none of this cluster" GET /v1/jobs -H "Authorization: Bearer "
expect "a hash is not a secret" answers 401 "none of this cluster" GET /v1/jobs \
    -H "Authorization: Bearer $(printf %s "${token[admin]}" | sha256sum | cut -c 1-64)"
expect "an admin of another cluster" answers 401 "not issued by this cluster" GET /v1/jobs \
    --cert "$WORK/other/admin/cert.pem" --key "$WORK/other/admin/key.pem"

# forge NAME ISSUER URI DAYS-FROM DAYS-TO: a certificate with that name, from the CA in ISSUER.
forge()
{
    local ca=$2 from to
    from=$(date -u -d "$4 days" +%Y%m%d%H%M%SZ) to=$(date -u -d "$5 days" +%Y%m%d%H%M%SZ)
    mkdir -p "$WORK/$1/db" && : >"$WORK/$1/db/index" && echo 01 >"$WORK/$1/db/serial" || return 1
    printf '%s\n' '[ca]' 'default_ca=x' '[x]' "database=$WORK/$1/db/index" "serial=$WORK/$1/db/serial" 'default_md=sha256' \
        "new_certs_dir=$WORK/$1/db" 'policy=p' 'x509_extensions=e' '[p]' 'commonName=supplied' '[e]' \
        'extendedKeyUsage=clientAuth' "subjectAltName=URI:$3" >"$WORK/$1/conf"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$WORK/$1/key.pem" -subj /CN=x -out "$WORK/$1/csr" &&
        openssl ca -batch -notext -config "$WORK/$1/conf" -cert "$ca/ca.pem" -keyfile "$ca/ca.key" -startdate "$from" \
            -enddate "$to" -in "$WORK/$1/csr" -out "$WORK/$1/cert.pem"
}

UID_OWN=$(jq -r .cluster "$CLUSTER/cluster.json")
ADMIN_URI="tidemark://$UID_OWN/client/admin?role=admin"
forged()
{
    forge "$1" "$2" "$3" "$4" "$5" >"$WORK/openssl" 2>&1 || { cat "$WORK/openssl"; return 1; }
    answers "$6" "$7" GET /v1/tokens --cert "$WORK/$1/cert.pem" --key "$WORK/$1/key.pem"
}
expect "our name from another CA" forged f1 "$WORK/other" "$ADMIN_URI" -1 1 401 "not issued by this cluster"
expect "our CA and name" forged f2 "$CLUSTER" "$ADMIN_URI" -1 1 200 '"tokens"'
expect "a certificate that has expired" forged f3 "$CLUSTER" "$ADMIN_URI" -2 -1 401 "has expired"
expect "a certificate of tomorrow" forged f4 "$CLUSTER" "$ADMIN_URI" 1 2 401 "not valid yet"
expect "our CA, the name of another cluster" forged f5 "$CLUSTER" "tidemark://0123456789abcdef/client/admin?role=admin" -1 1 401 \
    "for cluster 0123456789abcdef"
expect "a name that is none" forged f6 "$CLUSTER" "tidemark://$UID_OWN/client/admin?role=king" -1 1 401 "is not the name"
expect "two names" forged f7 "$CLUSTER" "$ADMIN_URI,URI:tidemark://$UID_OWN/client/bob?role=viewer" -1 1 401 "carry one name"
# With an agent's certificate in the place of a CA: what it signs is not to be believed.
agent_as_ca()
{
    mkdir -p "$WORK/agent-ca" && cp "$CLUSTER/agent/cert.pem" "$WORK/agent-ca/ca.pem" &&
        cp "$CLUSTER/agent/key.pem" "$WORK/agent-ca/ca.key" || return 1
    forge f8 "$WORK/agent-ca" "$ADMIN_URI" -1 1 >"$WORK/openssl" 2>&1 || { cat "$WORK/openssl"; return 1; }
    cat "$CLUSTER/agent/cert.pem" >>"$WORK/f8/cert.pem"
    answers 401 "not issued by this cluster" GET /v1/tokens --cert "$WORK/f8/cert.pem" --key "$WORK/f8/key.pem"
}
expect "an agent is no CA" agent_as_ca
ca_is_nobody()
{
    [ "$(ask GET /v1/tokens --cert "$CLUSTER/ca.pem" --key "$CLUSTER/ca.key" 2>/dev/null)" != 200 ]
}
expect "a CA is nobody" ca_is_nobody

# ---- tokens ----

expect "the list tells names, no hashes" equal "$(tm token list -o json | jq -r '[.tokens[] | .name, .hash // empty] | join(" ")')" \
    "join the-admin the-agent the-operator the-viewer"
SHORT=$(tm token create short --role viewer --expires 5s 2>/dev/null)
expect "a short-lived token" answers 200 "" GET /v1/jobs -H "Authorization: Bearer $SHORT"
expect "a name is taken once" fails "there is a token named short" tm token create short
expect "a revoked token" tm token revoke the-operator
expect "lets nobody in any more" answers 401 "or was revoked" GET /v1/jobs -H "Authorization: Bearer ${token[operator]}"
expect "an unknown one cannot be revoked" fails "no token named nobody" tm token revoke nobody
expect "a kill -9" kill -9 "$PID"
wait "$PID" 2>/dev/null
expect "a restart" daemon_start
expect "revoked stays revoked" answers 401 "or was revoked" GET /v1/jobs -H "Authorization: Bearer ${token[operator]}"
expect "given stays given" answers 200 "" GET /v1/jobs -H "Authorization: Bearer ${token[viewer]}"
expect "a token that has expired" wait_for 60 "its end" answers 401 "its token short has expired" GET /v1/jobs -H "Authorization: Bearer $SHORT"
expect "gives its name back" tm token create short --role viewer
expect "a viewer cannot give tokens" fails "needs role admin" env TIDEMARK_TOKEN="${token[viewer]}" \
    TIDEMARK_CACERT="$CLUSTER/ca.pem" TIDEMARK_COORDINATOR="https://$ADDRESS" "$TIDEMARK" token create x

# ---- agents ----

hello()
{
    jq -nc --arg n "$1" '{name: $n, uid: "0123456789abcdef", incarnation: "0123456789abcdef", address: "127.0.0.1", slots: 1}'
}
# shellcheck disable=SC2046
{
    expect "an agent registers its own node" answers 200 '"cluster"' POST /v1/agent/register $(as agent-n1) -d "$(hello n1)"
    expect "and no other" answers 403 'agent n1 may speak for node n1 only, not for \"n2\"' POST /v1/agent/register \
        $(as agent-n1) -d "$(hello n2)"
    expect "beats for its own node" answers 200 '"revision"' POST /v1/agent/heartbeat $(as agent-n1) \
        -d '{"node":"n1","uid":"0123456789abcdef","incarnation":"0123456789abcdef"}'
    expect "any agent registers any node" answers 200 '"cluster"' POST /v1/agent/register $(as agent) -d "$(hello n2)"
    expect "a heartbeat for another node" answers 403 "may speak for node n1 only" POST /v1/agent/heartbeat $(as agent-n1) \
        -d '{"node":"n2","uid":"0123456789abcdef","incarnation":"0123456789abcdef"}'
    expect "the orders of another node" answers 403 "may speak for node n1 only" GET \
        "/v1/agent/desired?node=n2&incarnation=0123456789abcdef" $(as agent-n1)
    expect "the orders of its own" answers 200 '"revision"' GET "/v1/agent/desired?node=n1&incarnation=0123456789abcdef" \
        $(as agent-n1)
}
BOUND=$(tm token create bound --role agent --node n3 2>/dev/null)
expect "a token of one node" answers 200 '"cluster"' POST /v1/agent/register -H "Authorization: Bearer $BOUND" -d "$(hello n3)"
expect "is good for that node alone" answers 403 "token bound may speak for node n3 only" POST /v1/agent/register \
    -H "Authorization: Bearer $BOUND" -d "$(hello n1)"

# ---- certificates that count no more ----

# issued NAME: an operator's certificate, as often as asked for.
issued()
{
    "$TIDEMARK" cluster issue --dir "$CLUSTER" client "$1" --role operator
}

serial()
{
    openssl x509 -noout -serial -in "$CLUSTER/$1/cert.pem" | cut -d= -f2
}

# The CA's own, of a member that was never added.
foreign_member()
{
    cp -r "$CLUSTER" "$WORK/copy" && "$TIDEMARK" cluster issue --dir "$WORK/copy" member 9 127.0.0.1:8:9 || return 1
    answers 401 "its certificate is that of member 9, which is not in the group" GET /v1/jobs \
        --cert "$WORK/copy/member-9/cert.pem" --key "$WORK/copy/member-9/key.pem"
}

# shellcheck disable=SC2046
{
    expect "a certificate for eve" issued eve
    expect "lets her in" answers 200 '"jobs"' GET /v1/jobs $(as client-eve)
    expect "until her name is revoked" says "client:eve is revoked" tm cluster revoke client eve
    expect "then no more" answers 401 "its certificate was revoked: client:eve" GET /v1/jobs $(as client-eve)
    expect "which is logged" grep -q "refused GET /v1/jobs from 127.0.0.1:[0-9]* (unknown).*was revoked: client:eve" "$WORK/log"
    expect "nor with a new one of that name" issued eve
    expect "that is" answers 401 "its certificate was revoked: client:eve" GET /v1/jobs $(as client-eve)
    expect "twice is not needed" fails "client:eve is revoked already" tm cluster revoke client eve
    expect "an agent's name is revoked" tm cluster revoke agent n1
    expect "it speaks for its node no more" answers 401 "its certificate was revoked: agent:n1" POST /v1/agent/heartbeat \
        $(as agent-n1) -d '{"node":"n1","uid":"0123456789abcdef","incarnation":"0123456789abcdef"}'
    expect "another agent does" answers 200 '"cluster"' POST /v1/agent/register $(as agent) -d "$(hello n2)"
    expect "a kill -9 does not help" kill -9 "$PID"
    wait "$PID" 2>/dev/null
    expect "nor a restart" daemon_start
    expect "what is revoked stays so" answers 401 "was revoked: client:eve" GET /v1/jobs $(as client-eve)
    expect "and is shown" equal "$(tm cluster revoked -o name)" "agent:n1
client:eve"
    expect "it can be undone" says "client:eve counts again" tm cluster revoke --undo client eve
    expect "and is" answers 200 '"jobs"' GET /v1/jobs $(as client-eve)
    expect "one certificate is revoked by its number" tm cluster revoke serial "$(serial client-eve)"
    expect "as the CA's tools print it" answers 401 "its certificate was revoked: serial:" GET /v1/jobs $(as client-eve)
    expect "others of that name count: here is one" issued eve
    expect "it does" answers 200 '"jobs"' GET /v1/jobs $(as client-eve)
    expect "agents that may come back" tm cluster revoke --undo agent n1
    expect "do" answers 200 '"cluster"' POST /v1/agent/register $(as agent-n1) -d "$(hello n1)"
}
expect "a member's certificate is not revoked, the member is removed" fails "tidemark cluster remove" tm cluster revoke member 1
expect "what is no number" fails "names no certificate" tm cluster revoke serial xyz
expect "what was not revoked cannot count again" fails "is not revoked" tm cluster revoke --undo client nobody
expect "a member that is not in the group" foreign_member

# agent NAME OPTION…: in the background, its log in $WORK/NAME.log
agent()
{
    local name=$1
    shift
    "$AGENT" --name "$name" --state "$WORK/$name" --arena "$WORK" --address 127.0.0.1 "$@" 2>"$WORK/$name.log" &
    AGENT_PID=$!
}

node_ready()
{
    [ "$(tm node show "$1" -o json 2>/dev/null | jq -r .node.state)" = ready ]
}

# ends_saying WORDS NAME OPTION…: an agent that cannot join ends by itself.
ends_saying()
{
    local words=$1 name=$2
    shift 2
    agent "$name" "$@"
    timeout 60 tail --pid="$AGENT_PID" -f /dev/null || { echo "it runs on"; kill -9 "$AGENT_PID"; wait "$AGENT_PID"; return 1; }
    wait "$AGENT_PID" && { echo "it ended well"; return 1; }
    grep -qF -- "$words" "$WORK/$name.log" || { cat "$WORK/$name.log"; return 1; }
}

# joins NAME OPTION…
joins()
{
    agent "$@"
    wait_for 60 "node $1" node_ready "$1" || { cat "$WORK/$1.log"; return 1; }
    kill -TERM "$AGENT_PID" && wait "$AGENT_PID"
}

expect "an agent joins with the join token's file" joins a1 --coordinator "https://$ADDRESS" --join-token "$CLUSTER/join-token"
expect "or with the token itself" joins a2 --coordinator "https://$ADDRESS" --join-token "$(<"$CLUSTER/join-token")"
expect "or with an identity" joins a3 --coordinator "https://$ADDRESS" --identity "$CLUSTER/agent"
expect "a join token of one node" joins a4 --coordinator "https://$ADDRESS" \
    --join-token "$(tm token create a4 --join --node a4 2>/dev/null)"

# ---- the logs of a job ----

# logs_status [CURL OPTION…]: what the agent answers when its logs are asked for.
logs_status()
{
    curl -sS -m 10 -k --tlsv1.3 --pinnedpubkey "sha256//$LOG_PIN" -o "$BODY" -w '%{http_code}' \
        "https://127.0.0.1:$LOG_PORT/v1/logs?job=talk&rank=0&stream=out" "$@"
}

job_ended()
{
    [ "$(tm job show talk -o json | jq -r .job.state)" = succeeded ]
}

agent a1 --coordinator "https://$ADDRESS" --join-token "$CLUSTER/join-token"
TALKER=$AGENT_PID
expect "the agent comes back" wait_for 60 "node a1" node_ready a1
expect "a job runs" tm run --name talk -- echo secret words
expect "to its end" wait_for 60 "the job to end" job_ended
expect "its logs can be read by who may look at it" says "secret words" env TIDEMARK_TOKEN="${token[viewer]}" \
    TIDEMARK_CACERT="$CLUSTER/ca.pem" TIDEMARK_COORDINATOR="https://$ADDRESS" "$TIDEMARK" job logs talk
LOG_PORT=$(tm node show a1 -o json | jq .node.log_port)
LOG_PIN=$(tm node show a1 -o json | jq -r .node.pin | perl -ne 'chomp; print pack "H*", $_' | base64)
expect "the agent's port is not plain" fails "" curl -s -m 10 -o "$BODY" "http://127.0.0.1:$LOG_PORT/v1/logs?job=talk&rank=0&stream=out"
expect "not by whoever reaches the agent" equal "$(logs_status)" 401
expect "nor with a key of one's own" equal "$(logs_status -H "Authorization: Bearer 0123456789abcdef0123456789abcdef")" 401
expect "nor with a token of the cluster" equal "$(logs_status -H "Authorization: Bearer ${token[admin]}")" 401
expect "nothing of them was said" fails "" grep -q "secret words" "$BODY"
expect "but with the job's key" equal \
    "$(logs_status -H "Authorization: Bearer $(tm job show talk -o json | jq -r .log_key)")" 200
expect "and that is all of them" equal "$(<"$BODY")" "secret words"
expect "the agent ends" kill -TERM "$TALKER"
wait "$TALKER"

# ---- agents that are not let in, or let themselves not be fooled ----

expect "a wrong pin is refused" ends_saying "is not believed" b1 --coordinator "https://$ADDRESS" \
    --join-token "$(sed 's/\./.0000/; s/^\(.\{74\}\)..../\1/' "$CLUSTER/join-token")"
expect "the join token of another cluster" ends_saying "is not believed" b2 --coordinator "https://$ADDRESS" \
    --join-token "$WORK/other/join-token"
expect "nothing was shown to it" equal "$(grep -c "node b[12]" "$WORK/log")" 0
expect "a join token that is none" ends_saying "not a join token" b3 --coordinator "https://$ADDRESS" --join-token tidejoin1.x
expect "the right pin, a wrong secret" ends_saying "none of this cluster" b4 --coordinator "https://$ADDRESS" \
    --join-token "$(sed 's/....$/0000/' "$CLUSTER/join-token")"

# believes_nobody WORDS NAME OPTION…: an agent that goes on asking, shows nothing, and says why.
believes_nobody()
{
    local words=$1
    shift
    agent "$@"
    wait_for 60 "the agent to say so" grep -qF -- "$words" "$WORK/$1.log" || { cat "$WORK/$1.log"; return 1; }
    kill -TERM "$AGENT_PID" && wait "$AGENT_PID" && ! node_ready "$1"
}
expect "the identity of another cluster" believes_nobody "certificate" b5 --coordinator "https://$ADDRESS" \
    --identity "$WORK/other/agent"
expect "an agent without any, over plain HTTP" believes_nobody "no answer" b6 --coordinator "http://$ADDRESS"
expect "a certificate for another node" ends_saying "is for node n1; this is node b7" b7 --identity "$CLUSTER/agent-n1"
expect "an identity that is no agent's" ends_saying "not the identity of an agent" b8 --identity "$CLUSTER/admin"
expect "a join token is for https" ends_saying "are for https" b9 --coordinator "http://$ADDRESS" --join-token "$CLUSTER/join-token"

# ---- redirects: a member that is not the leader sends clients on ----

# redirector NAME IDENTITY-DIR TARGET: an HTTPS server with that certificate that answers every call with 307 to TARGET (or 404
# when it is empty) and writes down what it was shown. Its address comes in $WORK/NAME.address.
redirector()
{
    python3 - "$2" "$3" "$WORK/$1" <<'PYTHON' &
import http.server, ssl, sys
identity, target, name = sys.argv[1:4]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        peer = self.connection.getpeercert()
        with open(name + ".seen", "a") as seen:
            print(self.command, self.path, self.headers.get("Authorization") or "-",
                  "certificate" if peer else "-", file=seen)
        self.send_response(307 if target else 404)
        if target:
            self.send_header("Location", target + self.path)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_GET = do_POST = do_DELETE = answer
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(identity + "/cert.pem", identity + "/key.pem")
context.load_verify_locations(identity + "/ca.pem")
context.verify_mode = ssl.CERT_OPTIONAL
server.socket = context.wrap_socket(server.socket, server_side=True)
with open(name + ".address", "w") as out:
    out.write("127.0.0.1:%d" % server.server_port)
server.serve_forever()
PYTHON
    wait_for 60 "the server $1" test -s "$WORK/$1.address"
}

seen()
{
    grep -qF -- "$2" "$WORK/$1.seen" || { cat "$WORK/$1.seen"; return 1; }
}

# through NAME COMMAND…: the CLI, sent there.
through()
{
    local to
    to=$(<"$WORK/$1.address")
    shift
    ADDRESS=$to tm "$@"
}

"$TIDEMARK" cluster issue --dir "$CLUSTER" member 2 127.0.0.1:7072:7073 >/dev/null
expect "a member that redirects" redirector follower "$CLUSTER/member-2" "https://$ADDRESS"
expect "the certificate goes along" says "the-viewer" through follower token list
expect "it was shown to both" seen follower "GET /v1/tokens - certificate"
expect "a change goes along" says "role viewer" through follower token create far --role viewer
expect "the token goes along" says "NAME" env TIDEMARK_TOKEN="${token[admin]}" TIDEMARK_CACERT="$CLUSTER/ca.pem" \
    TIDEMARK_COORDINATOR="https://$(<"$WORK/follower.address")" "$TIDEMARK" token list
expect "it was shown, too" seen follower "GET /v1/tokens Bearer ${token[admin]} -"
expect "an agent joins through it" joins a5 --coordinator "https://$(<"$WORK/follower.address")" --identity "$CLUSTER/agent"

expect "a stranger that waits for secrets" redirector stranger "$WORK/other/member-1" ""
: >"$WORK/stranger.seen"
expect "a member that was taken over" redirector captured "$CLUSTER/member-2" "https://$(<"$WORK/stranger.address")"
expect "an agent as a coordinator" redirector pretender "$CLUSTER/agent" "https://$ADDRESS"
expect "is believed by nobody" fails "no trust in" through pretender token list
expect "sends nobody to a stranger" fails "no trust in" through captured token list
expect "nor with a token" fails "no trust in" env TIDEMARK_TOKEN="${token[admin]}" TIDEMARK_CACERT="$CLUSTER/ca.pem" \
    TIDEMARK_COORDINATOR="https://$(<"$WORK/captured.address")" "$TIDEMARK" token list
expect "the stranger has seen nothing" equal "$(<"$WORK/stranger.seen")" ""
expect "nor is a stranger believed himself" fails "no trust in" through stranger token list
expect "still nothing" equal "$(<"$WORK/stranger.seen")" ""

# ---- what is said about refusals ----

# Ten a second are logged: those of the tables above may have been too many.
sleep 1.1
# shellcheck disable=SC2046 # several words
ask GET /v1/tokens $(as client-operator) >/dev/null
ask GET /v1/jobs >/dev/null
expect "a refused call is logged" grep -q 'refused GET /v1/tokens from 127.0.0.1:[0-9]* (client operator): .*needs role admin' "$WORK/log"
expect "so is one of nobody" grep -q 'refused GET /v1/jobs from 127.0.0.1:[0-9]* (unknown)' "$WORK/log"
expect "no secret is" equal "$(grep -cE 'tide_[0-9a-f]{64}' "$WORK/log")" 0
before=$(wc -l <"$WORK/log") begun=$SECONDS
# With a line of its own or in a number, though nobody else is refused after them.
all_counted()
{
    equal "$(tail -n +$((before + 1)) "$WORK/log" | awk '/ refused / {n++} /more calls were refused/ {n += $4} END {print n + 0}')" "$REFUSALS"
}
curl -sS --cacert "$CLUSTER/ca.pem" -o /dev/null "https://$ADDRESS/v1/jobs/flood[1-$REFUSALS]" >/dev/null
most=$((LOGGED_A_SECOND * (SECONDS - begun + 2)))
expect "every one of a flood is counted" wait_for 60 "the last of them" all_counted
expect "only a few of them have a line" test "$(tail -n +$((before + 1)) "$WORK/log" | grep -c ' refused ')" -le "$most"

# ---- how it is started ----

start()
{
    timeout 60 "$TIDEMARKD" "$@" 2>&1
}
expect "SIGTERM ends it with 0" daemon_stop
expect "no identity, and others reach it: refused" fails "whoever reaches 0.0.0.0:" start --data "$WORK/open" --listen 0.0.0.0:0
expect "the data of another cluster: refused" fails "$UID_OWN" start --data "$DATA" --identity "$WORK/other/member-1" --listen 127.0.0.1:0
expect "an admin is no member" fails "not the identity of a member" start --data "$DATA" --identity "$CLUSTER/admin"
expect "no such identity" fails "not an identity directory" start --data "$DATA" --identity "$WORK/nowhere"
chmod 644 "$CLUSTER/member-1/key.pem"
expect "a key that others may read: refused" fails "chmod 600" start --data "$DATA" --identity "$CLUSTER/member-1"

# ---- a group of three ----

read -r -a ports <<<"$(free_ports 6)"
CLUSTER=$WORK/three
"$TIDEMARK" cluster init --dir "$CLUSTER" "127.0.0.1:${ports[0]}:${ports[1]}" "127.0.0.1:${ports[2]}:${ports[3]}" \
    "127.0.0.1:${ports[4]}:${ports[5]}" >/dev/null
URLS="https://127.0.0.1:${ports[0]},https://127.0.0.1:${ports[2]},https://127.0.0.1:${ports[4]}"

# The CLI as admin, who knows the members from the identity.
three()
{
    TIDEMARK_IDENTITY=$CLUSTER/admin timeout 60 "$TIDEMARK" "$@"
}

three_ready()
{
    [ "$(three node show early -o json 2>/dev/null | jq -r .node.state)" = ready ]
}

# A token that the leader has acknowledged is good at every member, at once.
good_everywhere()
{
    local i port secret got
    for i in 1 2 3 4 5 6 7 8; do
        secret=$(three token create "$1-$i" --role viewer 2>/dev/null) || { echo "token $i was not made"; return 1; }
        for port in "${ports[4]}" "${ports[2]}" "${ports[0]}"; do
            curl -sS -m 1 -o /dev/null --cacert "$CLUSTER/ca.pem" "https://127.0.0.1:$port/v1/version" 2>/dev/null || continue
            got=$(curl -sS -m 10 -L --location-trusted --cacert "$CLUSTER/ca.pem" -o "$BODY" -w '%{http_code}' \
                -H "Authorization: Bearer $secret" "https://127.0.0.1:$port/v1/jobs")
            [ "$got" = 200 ] || { echo "token $i at port $port: $got $(<"$BODY")"; return 1; }
        done
    done
}

agent early --coordinator "$URLS" --join-token "$CLUSTER/join-token"
sleep 0.5
for member in 1 2 3; do
    "$TIDEMARKD" --data "$WORK/three-$member" --identity "$CLUSTER/member-$member" 2>>"$WORK/three.log" &
    THREE[member]=$!
done
expect "an agent that came before its coordinators joins" wait_for 60 "node early" three_ready
expect "a new token is good at every member at once" good_everywhere quick
LEADER=$(three cluster status -o json | jq '.members[] | select(.leader) | .id')
kill -9 "${THREE[LEADER]}"
wait "${THREE[LEADER]}" 2>/dev/null
expect "also when the leader has died" good_everywhere later
expect "and the agent goes on" wait_for 60 "node early" three_ready
expect "nobody was refused" equal "$(grep 'tidemarkd: refused ' "$WORK/three.log")" "" # "Connection refused" is of one that is dead
kill -TERM "$AGENT_PID"
wait "$AGENT_PID"
scenario_end
