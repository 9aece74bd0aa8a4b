"""How report.html looks: light and dark, on a screen and on paper."""

from trainer.plot import FONTS, LIGHT, STYLE

_LIGHT = f"{LIGHT};--panel:#f4f6f9"
_DARK = "--ink:#e6e9ef;--soft:#a4adbb;--grid:#353c48;--mark:#6cb0ff;--second:#ff9d5c;--paper:#14181f;--panel:#1d232d"

STYLESHEET = f"""
:root{{color-scheme:light dark;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}
*{{box-sizing:border-box}}
body{{margin:0 auto;max-width:1120px;padding:24px 20px 60px;background:var(--paper);color:var(--ink);
 font:16px/1.5 {FONTS}}}
h1,h2,p,li,dd,dt,figcaption,bdi,code{{overflow-wrap:anywhere}}
h1{{font-size:28px;line-height:1.25;margin:0 0 4px}}
h1 small{{font-weight:400;font-size:20px;color:var(--soft)}}
h2{{font-size:20px;margin:36px 0 10px;padding-top:14px;border-top:1px solid var(--grid)}}
h3{{font-size:16px;margin:12px 0 6px}}
p{{margin:4px 0;max-width:80ch}}
.note,figcaption,.place{{color:var(--soft);font-size:14px}}
.tiles{{display:grid;grid-template-columns:repeat(3,1fr);gap:12px;margin:20px 0 8px}}
.tiles div{{background:var(--panel);border-radius:8px;padding:10px 12px;min-width:0}}
.tiles dt,.tiles span{{font-size:13px;line-height:1.4;color:var(--soft)}}
.tiles dd{{margin:0}}
.tiles dd span{{display:block;white-space:normal}}
.tiles b{{display:block;font-size:21px;line-height:1.5;white-space:nowrap}}
@media (max-width:480px){{.tiles{{grid-template-columns:repeat(2,1fr)}}}}
@media (max-width:700px){{td:has(svg)+td{{min-width:16em}}td bdi{{overflow-wrap:break-word;max-width:12em}}}}
@media (min-width:960px){{.tiles{{grid-template-columns:repeat(6,1fr)}}}}
.verdict{{border-left:4px solid var(--soft);padding:8px 14px;background:var(--panel);max-width:none}}
.verdict.good{{border-color:var(--mark)}}
.remarks{{margin:0;padding:0 0 0 20px}}
.remarks li{{margin:4px 0}}
.remarks li::marker{{content:"!  ";color:var(--second);font-weight:700}}
.charts{{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,350px),1fr));gap:20px 28px;margin-top:10px}}
figure{{margin:0;min-width:0}}
figure svg{{display:block;width:100%;height:auto;max-width:530px}}
.alone figure{{display:grid;gap:8px 28px;align-items:center;
 grid-template-columns:repeat(auto-fit,minmax(min(100%,350px),1fr))}}
.wide{{overflow-x:auto;margin:8px 0}}
table{{border-collapse:collapse;font-size:14px;width:100%}}
th{{text-align:left;color:var(--soft);font-weight:600;white-space:nowrap}}
td b,td span{{white-space:nowrap}}
th,td{{padding:5px 14px 5px 0;border-bottom:1px solid var(--grid);vertical-align:top;min-width:4em}}
td bdi,td code{{display:inline-block;max-width:32em}}
td svg{{display:block}}
.number{{font-variant-numeric:tabular-nums;white-space:nowrap}}
pre{{background:var(--panel);border-radius:8px;padding:12px 14px;font-size:14px;line-height:1.6;
 user-select:all;white-space:pre-wrap;overflow-wrap:anywhere}}
code,pre{{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}}
{STYLE}
@media print{{
:root{{color-scheme:light;{_LIGHT}}}
body{{max-width:none;padding:0;font-size:12px}}
figure,tr,.tiles div,pre{{break-inside:avoid}}
h2,h3{{break-after:avoid}}
.tiles div,pre,.verdict{{border:1px solid var(--grid)}}
.wide{{overflow:visible}}
}}
"""
