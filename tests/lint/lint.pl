#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
#
# The house rules that a machine can check, one function per rule. Only what perl-base brings, so that it runs anywhere.
# A rule gets a list of files, { path, text, lines, code }, and returns findings "path:line: what, and what to do".
# `code` is the text with comments and the insides of literals blanked, line for line.

use strict;
use warnings;

my $root = $ENV{LINT_ROOT} or die "lint.pl: run it through tests/lint/run\n";
my $here = "$root/tests/lint";
chdir $root or die "lint.pl: cannot enter $root: $!\n";

use constant { FUNCTION_LINES_MAX => 70, FILE_LINES_MAX => 600, COLUMNS_MAX => 140 };

# ---- reading ----

sub slurp {
    my ($path) = @_;
    open my $in, '<', $path or die "lint.pl: $path: $!\n";
    local $/;
    my $text = <$in>;
    return defined $text ? $text : '';
}

# Comments and literals become blanks; newlines stay, so that line numbers hold.
sub blank { my ($s) = @_; $s =~ s/[^\n]/ /g; return $s; }

sub strip_c {
    my ($text) = @_;
    $text =~ s{("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(/\*.*?\*/|//[^\n]*)}
              { defined $2 ? blank($2) : substr($1, 0, 1) . blank(substr($1, 1, -1)) . substr($1, -1) }gse;
    return $text;
}

sub file_of {
    my ($path, $text) = @_;
    my %file = (path => $path, text => $text, lines => [split /\n/, $text, -1]);
    pop @{ $file{lines} } if @{ $file{lines} } && $file{lines}[-1] eq '';
    $file{code} = $path =~ /\.[ch]$/ ? strip_c($text) : $text;
    return \%file;
}

sub tree {
    my @paths = -e "$root/.git" ? split(/\0/, `git ls-files -z -co --exclude-standard`)
                                : map { s{^\./}{}; $_ } split(/\0/, `find . -name 'build*' -prune -o -type f -print0`);
    return map { file_of($_, slurp($_)) } sort grep { -f $_ && !-l $_ } @paths;
}

sub is_c       { $_[0]{path} =~ /\.[ch]$/ }
sub is_script  { $_[0]{path} =~ /\.sh$/ || $_[0]{text} =~ /\A#!.*\b(?:ba|da)?sh\b/ }
sub is_fixture { $_[0]{path} =~ m{^tests/lint/fixtures/} }
sub is_shipped { $_[0]{path} =~ m{^(?:agent|ckpt|coordinator|include)/} }

# Every match of `pattern` in the code of the files, as findings.
sub matches {
    my ($files, $pattern, $say) = @_;
    my @found;
    for my $file (@$files) {
        my $number = 0;
        for my $line (split /\n/, $file->{code}) {
            ++$number;
            while ($line =~ /$pattern/g) {
                my $word = $1;
                push @found, "$file->{path}:$number: " . $say->($word);
            }
        }
    }
    return @found;
}

# Lines "path word  reason" of an allow-list; a line without a reason, or one that allows nothing any more, is a finding.
sub allowed {
    my ($name, $files, $finder) = @_;
    my (%allow, @found, %used);
    for (split /\n/, slurp("$here/$name")) {
        next if /^\s*(?:#|$)/;
        my ($path, $word, $reason) = split ' ', $_, 3;
        $reason ? ($allow{"$path $word"} = 1) : push @found, "tests/lint/$name: '$_' has no reason";
    }
    for my $finding ($finder->($files)) {
        my ($path, $word, $text) = @$finding;
        $allow{"$path $word"} ? $used{"$path $word"} = 1 : push @found, $text;
    }
    my %here = map { $_->{path} => 1 } @$files;
    for my $key (sort keys %allow) {
        my ($path) = split ' ', $key;
        push @found, "tests/lint/$name: '$key' allows nothing any more: take it out" if $here{$path} && !$used{$key};
    }
    return @found;
}

sub includes {
    my ($file) = @_;
    my ($number, @list) = (0);
    for (@{ $file->{lines} }) {
        ++$number;
        push @list, [$number, $1, $2] if /^\s*#\s*include\s+(["<])([^">]+)[">]/;
    }
    return @list;
}

# ---- the floors ----

# What a room may include of ours, nearest rule first. The drawing is in README.md; this is the drawing, executed.
my @BASE = qw(include/tidemark ckpt/base);
my @KNOWLEDGE = (@BASE, 'ckpt/wire', 'ckpt/format', 'ckpt/cut');
my @FLOORS = (
    ['include/tidemark',    ['include/tidemark']],
    ['ckpt/base',           [@BASE]],
    ['ckpt/wire',           [@BASE, 'ckpt/wire']],
    ['ckpt/secure',         [@BASE, 'ckpt/wire', 'ckpt/secure']],
    ['ckpt/format',         [@BASE, 'ckpt/wire', 'ckpt/format']],
    ['ckpt/cut',            [@KNOWLEDGE]],
    ['ckpt/store',          [@KNOWLEDGE, 'ckpt/store']],
    ['ckpt/stage',          [@KNOWLEDGE, 'ckpt/store', 'ckpt/stage']],
    ['ckpt/client',         [@KNOWLEDGE, 'ckpt/stage', 'ckpt/client']],
    ['agent/core',          [@KNOWLEDGE, 'agent/core', 'agent/step/link.h']],
    ['agent/health/watch',  [@KNOWLEDGE, 'agent/health']],
    ['agent/health',        [@BASE, 'ckpt/wire', 'agent/health']],
    ['agent/step',          [@KNOWLEDGE, 'ckpt/stage', 'agent/step']],
    ['agent',               [@KNOWLEDGE, 'ckpt/secure', 'ckpt/store', 'ckpt/stage', 'agent']],
    ['coordinator/core',    [@KNOWLEDGE, 'coordinator/core']],
    ['coordinator/raft',    [@BASE, 'coordinator/raft']],
    ['coordinator/disk',    [@KNOWLEDGE, 'coordinator/disk']],
    ['coordinator/http',    [@KNOWLEDGE, 'coordinator/http']],
    ['coordinator/net',     [@BASE, 'ckpt/wire', 'ckpt/secure', 'coordinator/net']],
    ['coordinator/cli',     [@KNOWLEDGE, 'ckpt/secure', 'ckpt/store', 'ckpt/stage', 'coordinator/cli']],
    ['coordinator/server',  [@KNOWLEDGE, 'coordinator/core', 'coordinator/raft', 'coordinator/disk', 'coordinator/http',
                             'coordinator/net', 'coordinator/server', 'ckpt/secure', 'ckpt/store']],
    ['coordinator',         [@KNOWLEDGE, 'coordinator']],
    ['examples',            ['include/tidemark', 'examples']],
);

sub rule_floors {
    my ($files) = @_;
    my @found;
    for my $file (grep { is_c($_) } @$files) {
        my ($floor) = grep { $file->{path} =~ m{^\Q$_->[0]\E/} } @FLOORS or next;
        for (includes($file)) {
            my ($number, $quote, $what) = @$_;
            my $target = $what =~ m{^tidemark/} ? "include/$what" : $what =~ m{^(?:ckpt|agent|coordinator|examples|tests)/} ? $what : next;
            next if grep { $target eq $_ || $target =~ m{^\Q$_\E/} } @{ $floor->[1] };
            push @found, "$file->{path}:$number: $floor->[0] may not see $what (it may see: @{$floor->[1]})";
        }
    }
    return @found;
}

# Includes of ours are written from the root, so that the rule above sees them all.
sub rule_include_paths {
    my ($files) = @_;
    my @found;
    for my $file (grep { is_c($_) && is_shipped($_) } @$files) {
        for (includes($file)) {
            my ($number, $quote, $what) = @$_;
            next if $quote eq '<' || $what =~ m{^(?:ckpt|agent|coordinator|examples|tests)/};
            push @found, "$file->{path}:$number: \"$what\": write the path from the root of the tree";
        }
    }
    return @found;
}

my $PURE = qr{^(?:coordinator/core|coordinator/raft|agent/core|agent/health(?!/watch)|ckpt/wire|ckpt/format|ckpt/cut)/};

sub rule_pure_headers {
    my ($files) = @_;
    my @found;
    for my $file (grep { is_c($_) && $_->{path} =~ $PURE } @$files) {
        for (includes($file)) {
            my ($number, undef, $what) = @$_;
            push @found, "$file->{path}:$number: <$what> in a pure room: hand in what it would fetch"
                if $what =~ m{^(?:uv\.h|uv/|curl/|microhttpd\.h|time\.h|unistd\.h|fcntl\.h|sys/|netinet/|arpa/|netdb\.h|poll\.h|signal\.h|pthread\.h|threads\.h|mpi\.h|pmix|cuda|nccl|dirent\.h|spawn\.h)}
                || $what =~ m{^ckpt/base/fsx\.h$};
        }
    }
    return @found;
}

sub rule_pure_calls {
    my ($files) = @_;
    return matches([grep { is_c($_) && $_->{path} =~ $PURE } @$files],
        qr/(?<![\w.>])(getenv|secure_getenv|rand|random|srand|time|clock|clock_gettime|gettimeofday|getrandom|rng_entropy|clock_mono_ns|clock_wall_ms|open|read|write|close|socket|fopen|fread|fwrite|fprintf|printf|puts|log_(?:at|error|warn|info|debug))\s*\(/,
        sub { "$_[0]() in a pure room: hand its result in, or return what should be done" });
}

# ---- calls ----

sub rule_banned_calls {
    my ($files) = @_;
    return matches([grep { is_c($_) } @$files],
        qr/(?<![\w.>])(strcpy|strcat|sprintf|vsprintf|gets|system|popen|atoi|atol|atof|strtok|alloca|tmpnam|mktemp|setjmp|longjmp|strncpy|strerror)\s*\(/,
        sub { my %instead = (strcpy => 'text_copy', strcat => 'snprintf', sprintf => 'snprintf', vsprintf => 'vsnprintf',
                             gets => 'getline', system => 'posix_spawn', popen => 'posix_spawn', atoi => 'strtol with a check',
                             strncpy => 'text_copy', strtok => 'strtok_r or strcspn', alloca => 'mem_array',
                             strerror => 'err_errno (strerror is not safe in threads)');
              "$_[0]() is banned: use " . ($instead{$_[0]} || 'something that can be checked') });
}

sub rule_allocator {
    my ($files) = @_;
    return allowed('alloc.txt', $files, sub {
        my @found;
        for my $file (grep { is_c($_) && is_shipped($_) } @{ $_[0] }) {
            my $number = 0;
            for my $line (split /\n/, $file->{code}) {
                ++$number;
                while ($line =~ /(?<![\w.>])(malloc|calloc|realloc|reallocarray|free|strdup|strndup|asprintf|vasprintf)\s*\(/g) {
                    push @found, [$file->{path}, $1, "$file->{path}:$number: $1(): memory goes through ckpt/base/mem.h"];
                }
            }
        }
        return @found;
    });
}

# A library never ends its host; a daemon ends in one place.
sub rule_exits {
    my ($files) = @_;
    return allowed('exits.txt', $files, sub {
        my @found;
        for my $file (grep { is_c($_) && is_shipped($_) } @{ $_[0] }) {
            my $number = 0;
            for my $line (split /\n/, $file->{code}) {
                ++$number;
                while ($line =~ /(?<![\w.>])(exit|_exit|_Exit|quick_exit|abort)\s*\(/g) {
                    push @found, [$file->{path}, $1, "$file->{path}:$number: $1(): return a status instead"];
                }
            }
        }
        return @found;
    });
}

# libtidemark lives in somebody else's process.
sub rule_quiet_library {
    my ($files) = @_;
    return matches([grep { is_c($_) && $_->{path} =~ m{^ckpt/(?:client|stage|store|format)/} } @$files],
        qr/(?<![\w.>])(printf|puts|putchar|perror|fprintf|vfprintf|signal|sigaction|setenv|putenv|chdir|umask)\s*\(/,
        sub { "$_[0]() in a library that lives in other people's processes" });
}

# ---- words and forms ----

sub rule_unfinished {
    my ($files) = @_;
    my @found;
    for my $file (grep { !is_fixture($_) && $_->{path} !~ m{^(?:LICENSE|tests/lint/lint\.pl)$} } @$files) {
        my $number = 0;
        for (@{ $file->{lines} }) {
            ++$number;
            push @found, "$file->{path}:$number: '$1': finish it or file it"
                if /\b(TODO|FIXME|XXX|HACK|not implemented|unimplemented|placeholder)\b/ && !/LINT_WORDS/;
        }
    }
    return @found;
}

sub rule_spdx {
    my ($files) = @_;
    my @found;
    for my $file (grep { is_c($_) || is_script($_) || $_->{path} =~ m{(?:\.cmake|CMakeLists\.txt|\.pl|\.py|\.map|\.in)$} } @$files) {
        next if is_fixture($file);
        my $first = $file->{lines}[0] // '';
        $first = $file->{lines}[1] // '' if $first =~ /^#!/;
        push @found, "$file->{path}:1: the first line must hold SPDX-License-Identifier: Apache-2.0"
            unless $first =~ /SPDX-License-Identifier: Apache-2\.0/;
    }
    return @found;
}

sub rule_guards {
    my ($files) = @_;
    my @found;
    for my $file (grep { $_->{path} =~ /\.h$/ && $_->{path} !~ m{^examples/} } @$files) {
        (my $guard = $file->{path}) =~ s{^include/}{};
        $guard =~ s/[^A-Za-z0-9]/_/g;
        $guard = uc $guard;
        push @found, "$file->{path}:1: include guard must be $guard"
            unless $file->{code} =~ /^#ifndef \Q$guard\E\n#define \Q$guard\E\n/m && $file->{code} =~ /#endif\s*\z/;
    }
    return @found;
}

# Function bodies: house style puts the opening and the closing brace in column 0.
sub functions {
    my ($file) = @_;
    my ($number, $start, $name, @list) = (0, 0, '');
    my @code = split /\n/, $file->{code};
    for my $line (@code) {
        ++$number;
        if ($line =~ /^\{/) {
            my $head = '';
            for (my $back = $number - 2; $back >= 0 && $back > $number - 8; --$back) {
                last if $code[$back] =~ /[;}]\s*$/ || $code[$back] =~ /^\s*$/;
                $head = "$code[$back] $head";
            }
            $name = $head =~ /(\w+)\s*\(/ ? $1 : '';
            $start = $name ? $number : 0;
        } elsif ($line =~ /^\}/ && $start) {
            push @list, [$name, $start, $number - $start + 1];
            $start = 0;
        }
    }
    return @list;
}

sub rule_lengths {
    my ($files) = @_;
    my %most = (function => FUNCTION_LINES_MAX, file => FILE_LINES_MAX);
    my (%ratchet, @found);
    for (split /\n/, slurp("$here/lengths.txt")) {
        next if /^\s*(?:#|$)/;
        my ($path, $what, $lines) = split;
        $ratchet{"$path $what"} = $lines;
    }
    for my $file (grep { is_c($_) } @$files) {
        my @sizes = (['file', 1, scalar @{ $file->{lines} }], functions($file));
        for (@sizes) {
            my ($what, $line, $lines) = @$_;
            my $limit = $most{ $what eq 'file' ? 'file' : 'function' };
            my $grown = delete $ratchet{"$file->{path} $what"};
            push @found, "$file->{path}:$line: $what has $lines lines, more than " . ($grown // $limit) if $lines > ($grown // $limit);
            push @found, "tests/lint/lengths.txt: $file->{path} $what is down to $lines: lower the mark" if defined $grown && $lines < $grown;
        }
    }
    my %here = map { $_->{path} => 1 } @$files;
    push @found, map { "tests/lint/lengths.txt: '$_' is gone: take it out" } grep { $here{(split)[0]} } sort keys %ratchet;
    return @found;
}

sub rule_columns {
    my ($files) = @_;
    my @found;
    for my $file (grep { is_c($_) } @$files) {
        my $number = 0;
        for (@{ $file->{lines} }) {
            ++$number;
            my $chars = $_;
            utf8::decode($chars);
            push @found, "$file->{path}:$number: " . length($chars) . " columns, more than " . COLUMNS_MAX if length($chars) > COLUMNS_MAX;
            push @found, "$file->{path}:$number: a tab: indent with four spaces" if /\t/;
            push @found, "$file->{path}:$number: blanks at the end of the line" if /\s$/;
        }
    }
    return @found;
}

# Paths that exist on one machine only.
sub rule_machine_paths {
    my ($files) = @_;
    my @found;
    for my $file (grep { !is_fixture($_) && $_->{path} ne 'tests/lint/lint.pl' } @$files) {
        my $number = 0;
        for (@{ $file->{lines} }) {
            ++$number;
            push @found, "$file->{path}:$number: '$1' is a path of one machine" if m{(?<![\w.\$\}/])(/(?:home|root|Users|mnt)/[\w./-]+)};
        }
    }
    return @found;
}

# ---- the tree as a whole ----

sub rule_top_level {
    my ($files) = @_;
    my %known = map { $_ => 1 } qw(CMakeLists.txt README.md LICENSE coordinator agent ckpt include tests examples);
    my (%seen, @found);
    for (@$files) {
        my ($top) = split m{/}, $_->{path};
        next if $known{$top} || $top =~ /^\./ || $seen{$top}++;
        push @found, "$top: not one of the nine names of the top level";
    }
    return @found;
}

sub rule_options_documented {
    my ($files) = @_;
    my ($readme) = map { $_->{text} } grep { $_->{path} eq 'README.md' } @$files;
    my @found;
    for my $file (grep { $_->{path} =~ m{(?:CMakeLists\.txt|\.cmake)$} } @$files) {
        while ($file->{text} =~ /^\s*(?:option\((TIDE_\w+)|set\((TIDE_\w+)[^)]*\bCACHE\b)/mg) {
            my $option = $1 // $2;
            push @found, "$file->{path}: option $option is not explained in README.md" unless defined $readme && $readme =~ /\b$option\b/;
        }
    }
    return @found;
}

sub rule_links {
    my ($files) = @_;
    my %there = map { my @p = ($_->{path}); while ($p[0] =~ m{/}) { (my $up = $p[0]) =~ s{/[^/]*$}{}; unshift @p, $up } map { $_ => 1 } @p } @$files;
    my @found;
    for my $file (grep { $_->{path} =~ /\.md$/ } @$files) {
        (my $dir = $file->{path}) =~ s{[^/]*$}{};
        my ($number, $fenced) = (0, 0);
        for (@{ $file->{lines} }) {
            ++$number;
            $fenced = !$fenced if /^\s*```/;
            next if $fenced;
            while (/\]\(([^)\s]+)\)/g) {
                my $link = $1;
                next if $link =~ m{^(?:https?:|mailto:|#)};
                (my $target = $dir . $link) =~ s/#.*//;
                $target =~ s{(?:^|(?<=/))\./}{}g;
                1 while $target =~ s{(?:^|(?<=/))[^/]+/\.\./}{};
                $target =~ s{/$}{};
                push @found, "$file->{path}:$number: link to $link leads nowhere" unless $target eq '' || $target eq '..' || $there{$target};
            }
        }
    }
    return @found;
}

# A test that nobody builds cannot fail.
sub rule_tests_registered {
    my ($files) = @_;
    my $lists = join '', map { $_->{text} } grep { $_->{path} =~ m{^tests/.*(?:CMakeLists\.txt|\.cmake)$} } @$files;
    my @found;
    for (grep { $_->{path} =~ m{^tests/(?:unit|sim|fault|bench)/[\w-]+\.c$} } @$files) {
        my ($name) = $_->{path} =~ m{([\w-]+)\.c$};
        (my $short = $name) =~ s/^test_//;
        push @found, "$_->{path}: no CMake list of tests/ builds it" unless $lists =~ /\b(?:\Q$name\E\.c|(?<=tide_unit\()\Q$short\E|(?<=tide_cuda_unit\()\Q$short\E|(?<=tide_nccl_unit\()\Q$short\E|\Q$name\E)\b/;
    }
    return @found;
}

sub rule_readmes {
    my ($files) = @_;
    my %there = map { $_->{path} => 1 } @$files;
    return map { "$_: each big folder has its short README" }
        grep { !$there{$_} } map { "$_/README.md" } qw(coordinator agent ckpt tests examples);
}

# Links between targets follow the floors too: no agent target names a coordinator target, and the other way round.
sub rule_target_links {
    my ($files) = @_;
    my @found;
    my $agent = qr/\b(tide_agent\w*|tidemark-agent|tidemark-step|tide_link|tide_rpc)\b/;
    my $coordinator = qr/\b(tide_core|tide_disk|tide_http|tide_net|tide_raft|tide_server|tidemarkd)\b/;
    for my $file (grep { $_->{path} =~ m{CMakeLists\.txt$} } @$files) {
        (my $text = $file->{text}) =~ s/#[^\n]*//g;
        push @found, "$file->{path}: an agent target names $1" if $file->{path} =~ m{^agent/} && $text =~ $coordinator;
        push @found, "$file->{path}: a coordinator target names $1" if $file->{path} =~ m{^coordinator/} && $text =~ $agent;
        push @found, "$file->{path}: the CLI names $1" if $file->{path} =~ m{^coordinator/cli/} && $text =~ $coordinator;
        push @found, "$file->{path}: lists of sources are written out, not globbed" if $text =~ /file\s*\(\s*GLOB/;
    }
    return @found;
}

sub rule_shell {
    my ($files) = @_;
    my @scripts = map { $_->{path} } grep { is_script($_) && !is_fixture($_) } @$files;
    my @found;
    for my $path (@scripts) {
        my $said = `bash -n '$path' 2>&1`;
        push @found, map { "$path: bash -n: $_" } split /\n/, $said if $?;
    }
    return (@found, 'SKIP shellcheck is not installed: apt install shellcheck') if system('command -v shellcheck >/dev/null 2>&1');
    # One at a time: told of several, or to follow them (-x), it analyses what they source again for each, ten times as long.
    push @found, map { split /\n/, `shellcheck -S warning -f gcc '$_'` } @scripts;
    return @found;
}

# ---- running ----

my @RULES = (
    [floors            => \&rule_floors,            'each floor sees only what lies below it'],
    [include_paths     => \&rule_include_paths,     'includes of ours are written from the root'],
    [pure_headers      => \&rule_pure_headers,      'pure rooms include nothing that touches the world'],
    [pure_calls        => \&rule_pure_calls,        'pure rooms call nothing that touches the world'],
    [banned_calls      => \&rule_banned_calls,      'no banned call'],
    [allocator         => \&rule_allocator,         'memory goes through ckpt/base/mem.h'],
    [exits             => \&rule_exits,             'nothing but main ends the process'],
    [quiet_library     => \&rule_quiet_library,     'libraries neither print nor change their process'],
    [unfinished        => \&rule_unfinished,        'nothing is left unfinished'],
    [spdx              => \&rule_spdx,              'every source says its licence'],
    [guards            => \&rule_guards,            'include guards match the path'],
    [lengths           => \&rule_lengths,           'functions fit a screen, files a sitting'],
    [columns           => \&rule_columns,           'lines fit, no tabs, no blanks at the end'],
    [machine_paths     => \&rule_machine_paths,     'no path of one machine'],
    [top_level         => \&rule_top_level,         'nine names at the top'],
    [options           => \&rule_options_documented, 'every build option is explained'],
    [links             => \&rule_links,             'every link leads somewhere'],
    [tests_registered  => \&rule_tests_registered,  'every test is built'],
    [readmes           => \&rule_readmes,           'each big folder has its README'],
    [target_links      => \&rule_target_links,      'targets link along the floors'],
    [shell             => \&rule_shell,             'scripts parse and shellcheck is content'],
);

# A fixture's first line names the rule and the path it plays: "rule: floors  path: agent/core/x.c  finds: 1".
sub self_test {
    my %rule = map { $_->[0] => $_->[1] } @RULES;
    my (@bad, %covered);
    for my $fixture (sort glob "$here/fixtures/*.txt") {
        my ($head, $text) = slurp($fixture) =~ /\A([^\n]*)\n(.*)\z/s;
        my ($name, $path, $count) = $head =~ /rule: (\w+)\s+path: (\S+)\s+finds: (\d+)/;
        if (!$name || !$rule{$name}) { push @bad, "$fixture: first line names no rule"; next }
        my @found = grep { !m{^tests/lint/\w+\.txt} } $rule{$name}->([file_of($path, $text)]);
        $covered{$name} = 1 if $count;
        push @bad, "$fixture: rule $name finds " . @found . " faults, not $count" . join('', map { "\n#     $_" } @found) if @found != $count;
    }
    # shell and readmes read the real tree, not a file handed in.
    push @bad, map { "no fixture proves that rule $_->[0] finds anything" } grep { !$covered{$_->[0]} && $_->[0] ne 'shell' && $_->[0] ne 'readmes' } @RULES;
    return @bad;
}

my $failed = 0;
sub report {
    my ($name, $text, @found) = @_;
    my @skips = grep { /^SKIP / } @found;
    @found = grep { !/^SKIP / } @found;
    print @found ? "not ok" : "ok", " lint/$name - $text", (@skips && !@found ? " # $skips[0]" : ''), "\n";
    print "# $_\n" for @found;
    ++$failed if @found;
}

my %wanted = map { $_ => 1 } @ARGV;
my @files = tree();
report('self_test', 'the linter finds what its fixtures hide', self_test()) if !%wanted || $wanted{self_test};
for (@RULES) {
    my ($name, $rule, $text) = @$_;
    report($name, $text, $rule->([grep { !is_fixture($_) } @files])) if !%wanted || $wanted{$name};
}
exit($failed ? 1 : 0);
