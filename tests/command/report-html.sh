#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The page of `vdcheck report --output=html`, without a browser: what is in it, and that names are text in it.
# shellcheck source=functions.sh
. "${srcdir:-$(dirname "$0")/../..}/tests/command/functions.sh"

# page NAME DB...: the report as NAME.html; what holds for every page is looked at
page()
{
    local name=$1

    shift
    vd report --output=html "$@"
    silent err
    cp "$told/out" "$name.html"
    check_page "$name.html"
}

# between FILE TAG: what stands in the only element of that name, byte for byte
between()
{
    awk -v tag="$2" '
        !inside && (i = index($0, "<" tag ">")) { inside = 1; $0 = substr($0, i + length(tag) + 2) }
        inside && (i = index($0, "</" tag ">")) { printf "%s", substr($0, 1, i - 1); exit }
        inside { print }' "$1"
}

# has_its_policy FILE ELEMENT: the hash in the policy is that of what stands in the element
has_its_policy()
{
    local hash

    hash=$(between "$1" "$2" | sha256sum | cut -c 1-64 | tr a-f A-F | basenc --base16 -d | base64)
    grep -qF "$2-src 'sha256-$hash'" "$1" || fail "$1: the policy does not fit the $2"
}

check_page()
{
    has_its_policy "$1" style
    has_its_policy "$1" script
    grep -qF "content=\"default-src 'none'; style-src 'sha256-" "$1" || fail "$1: no policy"
    [ "$(grep -ocE '<(script|style)[ >]' "$1")" = 2 ] || fail "$1: more than one script and one style"
    sed '/<style>/,/<\/style>/d; /<script>/,/<\/script>/d' "$1" >body
    # in the markup; text has its < as an entity
    ! grep -qiE '<[^>]* (style|on[a-z]*)=' body || fail "$1: an attribute that the policy forbids"
    ! grep -qE '<[^>]* (href|src|action|data)="[^#]' body || fail "$1: a link to elsewhere"
    ! grep -qaP '[^\x09\x0a\x20-\x7e\x80-\xff]' "$1" || fail "$1: control characters"
    holds "$1: not UTF-8" iconv -f UTF-8 -t UTF-8 "$1"
    is_well_formed "$1"
}

# Every element that is opened is closed, in its order; ids stand once, and every link has its aim.
is_well_formed()
{
    has_command python3 || { skip_part "no python3 to parse HTML with"; return; }
    python3 - "$1" >parsed 2>&1 <<'END' || fail "$1: $(cat parsed)"
import sys
from html.parser import HTMLParser

VOID = {"meta", "input", "rect", "path", "circle"}
KNOWN = VOID | set("""html head title style body a header h1 h2 h3 h4 p dl dt dd div nav main section ul li span b code details
    summary figure figcaption svg text table caption thead tbody tr th td form label fieldset legend output footer script""".split())

class Parser(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.bad = [], set(), set(), []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in KNOWN:
            self.bad.append("<%s>" % tag)
        if "id" in attrs:
            self.bad += ["id %s twice" % attrs["id"]] if attrs["id"] in self.ids else []
            self.ids.add(attrs["id"])
        if "href" in attrs:
            self.links.add(attrs["href"])
        if tag not in VOID:
            self.open.append(tag)

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.bad.append("</%s> at %s" % (tag, self.getpos()))

p = Parser()
p.feed(open(sys.argv[1], encoding="utf-8").read())
p.bad += ["%s is not closed" % tag for tag in p.open] + ["no %s" % l for l in p.links if l[1:] not in p.ids]
sys.exit("; ".join(p.bad[:5]) or 0)
END
}

# ---- nothing, and one run
mkdir farm
vd audit --db=none.db farm
page none none.db
expect 0
says out '<html lang="en">'
says out '>No images.<'
says out 'There is no run before'
sample farm/plain.qed
sleep 0.1
vd audit --db=db farm
page one db
expect 0
says out '>All well: nothing is wrong with 1 image.<'
says out 'No image has a finding.'
says out 'nothing yet to compare'

# ---- damage, news and strange names
strange_farm farm
sleep 0.1
vd audit --db=db farm
page ten db
expect 4
says out '5 of 10 images need attention: 2 damaged, 1 not closed cleanly, 2 leaking; 5 new since the run before.'
matches out '<title>vdcheck: .*, 20[0-9-]{8} [0-9:]{5} UTC</title>'
[ "$(grep -c '<tr><td class="word ' ten.html)" = 10 ] || fail "not a row for each image"
# by the catalogue's own words, and the command of the human report
"$VDCHECK" explain qed.l2-entry-shared | sed -n 's/^  \(Two .*\)/\1/p' >words
[ -s words ] || fail "explain says something else"
grep -qF "$(cat words)" ten.html || fail "the explanation is not that of explain"
vd report db
next=$(sed -n 's/^Next: //p' "$told/out" | sed "s/&/\\&amp;/g; s/</\\&lt;/g; s/>/\\&gt;/g; s/\"/\\&quot;/g; s/'/\\&#39;/g")
grep -qF "<code>$next</code>" ten.html || fail "the next command is not that of the human report: $next"
grep -qF 'vdcheck --repair=all --dry-run ' ten.html || fail "no command for what only level all repairs"
# the letters of `vdcheck map`
letters=$("$VDCHECK" map farm/x\</script\>.qed | sed -n 's/^  \(H1[^ ]*\)$/\1/p')
[ "$letters" = 'H1111#2222.#' ] || fail "the map draws $letters"
grep -qF ">$letters</text>" ten.html || fail "the strip is not that of the map"
grep -qF 'header 1, L1 table 4, data 2, L2 table 4, leaked 1; findings in part 7, 11.' ten.html || fail "the strip in words"
grep -qF '<b>Guest data at risk:</b> 0x10000 to 0x1ffff <span class="quiet">64 KiB</span>.' ten.html || fail "guest ranges"
# names are text, and what would turn around or is no text stands as its bytes
for name in '&lt;script&gt;alert(1).qed' 'x&lt;/script&gt;.qed' '&quot;onload=&#39;alert(1)&#39;.qed' 'two\x0alines.qed' \
    '\xff\xfe.qed' 'a\xe2\x80\xaegpj.qed' '&amp;lt;b&amp;gt;.qed' 'javascript:alert(1)' '&lt;img src=x onerror=alert(1)&gt;'; do
    grep -qF -e "$name" ten.html || fail "no $name"
done

# ---- the same bytes from the same databases, in any order and number
page again db
same ten.html again.html
for night in 1 2; do
    for i in 1 2 3; do
        vd audit --db=s$i.db --shard=$i/3 farm
    done
    page sum s1.db s2.db s3.db
    says out "$((3 * night)) runs that came to their end, in $night round"
    # all shards of a round together: images, damaged, dirty, leaking, leaked bytes
    [ "$(grep -c '</th><td class="n">10</td><td class="n">2</td><td class="n">1</td><td class="n">2</td><td class="n">384 KiB</td>' \
        sum.html)" = $night ] || fail "the rounds do not add up"
done
page other s3.db s1.db s1.db s2.db s3.db
same sum.html other.html
page part s3.db s1.db
says out '<li>Note: shard 2 of 3 is missing</li>'
says out 'not everything was looked at.'

# ---- filters, and a page that nobody can write
page clean --status=clean db
expect 0
[ "$(grep -c '<tr><td class="word ' clean.html)" = 5 ] || fail "--status"
if [ -e /dev/full ]; then
    run sh -c '"$VDCHECK" report --output=html db >/dev/full'
    [ $((status & 8)) -eq 8 ] || fail "status $status where the page cannot be written"
fi

# ---- repairs: the first audit of all already makes some, and every one can be taken back by what the page says
# undo_of FILE NAME: the command that the page has for the image of this name, as a shell takes it
undo_of()
{
    grep -aF '<b>Undo:</b>' "$1" | sed -n 's/.*<b>Undo:<\/b> <code>vdcheck \(.*\)<\/code> <span>puts.*/\1/p' |
        sed "s/&lt;/</g; s/&gt;/>/g; s/&quot;/\"/g; s/&#39;/'/g; s/&amp;/\&/g" | grep -aF -e "$2"
}
mkdir mended
sample mended/plain.qed
leaking mended/plain.qed 'mended/<script>&"alert(1).qed'
tail_leaking mended/plain.qed mended/$'\xff\n <b>.qed'
shared mended/plain.qed mended/part.qed
cp -r mended mended.before
sleep 0.1
vd audit --db=mended.db --undo-dir=$'undo<i>\xff' --repair mended
expect 5
page mended mended.db
expect 5
says out '1 of 4 images needs attention: 1 leaking; the last run repaired 3; 3 new since the run before.'
[ "$(grep -c '<p>Repaired by the audit at level safe' mended.html)" = 3 ] || fail "not all repairs are told"
says out '<span class="word repaired">repaired</span> two L2 entries name the same data cluster</h4>'
says out '<span class="quiet">repaired in part</span>'
says out '/undo&lt;i&gt;\xff/&lt;script&gt;&amp;&quot;alert(1).qed-'
for name in alert '<b>' part; do
    undo=$(undo_of mended.html "$name")
    run bash -c '"$VDCHECK" '"$undo"
    expect 0
done
for file in mended/*; do
    same "$file" "mended.before/${file##*/}"
done
# a night later they are history
sleep 0.1
vd audit --db=mended.db mended
page history mended.db
lacks out 'Repaired by the audit'
lacks out 'the last run repaired'

# ---- no memory: the page is whole, or there is an error
vd report --output=html db
is_told=0
for kib in $(seq 6000 500 24000); do
    run bash -c "ulimit -v $kib; exec \"\$VDCHECK\" report --output=html --exit-zero db"
    if [ $status = 0 ]; then
        same ten.html "$told/out"
        break
    fi
    # below that not even the program is loaded
    [ $status != 8 ] || is_told=1
    [ $status = 8 ] || [ $is_told = 0 ] || fail "status $status of a page that is not whole"
done
[ $status = 0 ] || skip_part "no memory can be taken from this vdcheck"

# ---- a database that a stranger wrote, and one of schema 1
if has_command sqlite3; then
    cp db hostile.db
    sqlite3 hostile.db "UPDATE run SET host = '</title><script>', farm = '\"', name = name || '<b>', seconds = 9e999,
            found = -9223372036854775808, checked = 5, leaked_bytes = 9223372036854775807, damaged = 9223372036854775807;
        UPDATE image SET host = '\"><img src=x>';
        UPDATE result SET format = '<b>', reason = '</p><script>', checked_at = 9223372036854775807,
            strip = '<script>', virtual_size = 9223372036854775807, file_size = 1, leaked_bytes = 9223372036854775807;
        UPDATE finding SET severity = '\" onclick=\"x', level = '<i>', note = '<s>', count = 9223372036854775807,
            places = '[{\"host_offset\": 9223372036854775807, \"host_bytes\": 9223372036854775807, \"guest_offset\": 5,
                \"guest_bytes\": 9223372036854775807, \"where\": \"<u>\", \"tree\": \"</td>\", \"found\": \"<script>\"}, 7, []]'"
    page hostile hostile.db
    lacks out '<b>.qed'
    cp db strips.db
    for strip in '' '?' H1x "$(printf 'H%.0s' {1..65})" "''"; do
        sqlite3 strips.db "UPDATE result SET strip = '$strip'"
        page strips strips.db
        says out 'There is no strip'
    done
    cp db refused.db
    sqlite3 refused.db "UPDATE result SET reason = '<script>why', repair = '{\"level\": \"<i>\", \"undo_file\": null}'
        WHERE status = 'dirty'; UPDATE result SET reason = '<script>why', repair = '{\"refused\": \"<u>\"}' WHERE status = 'damaged'"
    page refused refused.db
    says out '; the last run could not repair 3;'
    [ "$(grep -c '<b>Not repaired:</b> &lt;script&gt;why</p>' refused.html)" = 3 ] || fail "what was refused is not told"
    for repair in '{"undo_file": "<b>", "fixed": [{"id": "<b>", "level": 7, "places": 5, "count": -1}, 5], "level": "<i>"}' \
        '{"undo_file": "", "undo_file_base64": "!"}' '{"undo_file": "x", "refused": "y", "fixed": {}}' '{"undo_file": 5}' '[' ''; do
        sqlite3 refused.db "UPDATE result SET repair = '$repair'"
        page refused refused.db
        vd report refused.db
        vd report --output=json refused.db
    done
    cp db old.db
    sqlite3 old.db "ALTER TABLE result DROP COLUMN strip; PRAGMA user_version=1"
    page old old.db
    says out 'There is no strip'

    # ---- ten thousand, and ten thousand that are damaged
    cp db many.db
    inflate many.db 10000
    page many many.db
    [ "$(size_of many.html)" -lt $((10 << 20)) ] || fail "the page of 10000 images is too large: $(size_of many.html)"
    [ "$(grep -c '<tr><td class="word ' many.html)" = 10000 ] || fail "rows are missing"
    sqlite3 many.db "UPDATE image SET result_id = (SELECT id FROM result WHERE status = 'damaged')"
    page worst many.db
    [ "$(size_of worst.html)" -lt $((10 << 20)) ] || fail "the page of 10000 damaged images is too large: $(size_of worst.html)"
    [ "$(grep -c '<details class="part' worst.html)" = 500 ] || fail "not 500 parts"
    says out 'the parts of 9,500 more images with findings are left out'
else
    skip_part "no sqlite3"
fi

finish
