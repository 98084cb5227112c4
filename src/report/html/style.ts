/** Colours by what they are for. Series are blue and orange of Okabe and Ito's palette, which colour-blind readers tell apart. */
const LIGHT = {
  page: '#ffffff',
  raised: '#f5f7f9',
  ink: '#1b2430',
  quiet: '#5a6673',
  rule: '#d9dfe5',
  first: '#0067a5',
  second: '#b65200',
  third: '#00735a',
  good: '#0b6b3a',
  bad: '#b3261e',
  warn: '#8a5a00',
  'good-page': '#e8f5ed',
  'bad-page': '#fdeceb',
  link: '#0067a5',
};

const DARK: typeof LIGHT = {
  page: '#12171d',
  raised: '#1b222b',
  ink: '#e4e9ee',
  quiet: '#9aa7b4',
  rule: '#303a45',
  first: '#62b4ee',
  second: '#f0a050',
  third: '#45c9a6',
  good: '#5fd08f',
  bad: '#ff8a80',
  warn: '#e6b450',
  'good-page': '#14291e',
  'bad-page': '#331c1c',
  link: '#7cc0f2',
};

const variables = (scheme: 'light' | 'dark', colours: typeof LIGHT): string =>
  `color-scheme:${scheme};${Object.entries(colours)
    .map(([name, colour]) => `--${name}:${colour};`)
    .join('')}`;

/** The whole style of the page. */
export const STYLE = `
:root{${variables('light', LIGHT)}}
@media (prefers-color-scheme:dark){:root:not([data-theme=light]){${variables('dark', DARK)}}}
:root[data-theme=dark]{${variables('dark', DARK)}}
*{box-sizing:border-box}
html{scroll-padding-top:3rem}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
code,pre,.path{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono",monospace;font-size:.92em;overflow-wrap:anywhere}
a{color:var(--link)}
:focus-visible{outline:2px solid var(--first);outline-offset:2px}
.skip{position:absolute;left:-99rem}
.skip:focus{left:.5rem;top:.5rem;background:var(--page);padding:.4rem .8rem;z-index:3}
header{position:sticky;top:0;z-index:2;background:var(--page);border-bottom:1px solid var(--rule)}
header>div{max-width:84rem;margin:auto;padding:.35rem 1rem;display:flex;gap:1rem;align-items:center;overflow-x:auto;scrollbar-width:none}
header nav{display:flex;gap:.9rem;font-size:.9rem;flex:1}
header nav a{color:var(--quiet);text-decoration:none;white-space:nowrap}
header nav a:hover{color:var(--ink);text-decoration:underline}
header strong{white-space:nowrap}
main{max-width:84rem;margin:auto;padding:0 1rem 3rem}
h1{font-size:1.45rem;line-height:1.25;margin:0}
h2{font-size:1.15rem;margin:2.2rem 0 .6rem;padding-top:.7rem;border-top:1px solid var(--rule)}
h3{font-size:1rem;margin:1.2rem 0 .3rem;overflow-wrap:anywhere}
p{margin:.4rem 0}
.quiet{color:var(--quiet)}
.hint{font-size:.87rem}
footer{max-width:84rem;margin:auto;padding:1rem;color:var(--quiet);font-size:.87rem}
html:not(.js) .needs-script{display:none}

.verdict{margin-top:1rem;padding:1rem 1.2rem;border:1px solid var(--rule);border-left-width:6px;border-radius:6px;background:var(--raised)}
.verdict.passed{border-left-color:var(--good);background:var(--good-page)}
.verdict.failed{border-left-color:var(--bad);background:var(--bad-page)}
.verdict.passed h1 .mark{color:var(--good)}
.verdict.failed h1 .mark{color:var(--bad)}
.models{font-size:.92rem}
.checks{list-style:none;padding:0;margin:.6rem 0}
.checks li{margin:.15rem 0;overflow-wrap:anywhere}
.badge{display:inline-block;min-width:4.6em;font-size:.8rem;font-weight:600;padding:0 .45em;border:1px solid;border-radius:3px;text-align:center;white-space:nowrap}
.badge.ok{color:var(--good)}
.badge.failed{color:var(--bad)}
.badge.warn{color:var(--warn)}
.warning{border-left:4px solid var(--warn);padding-left:.6rem}
.blame{margin:.6rem 0 .2rem}
.blame>div{display:grid;grid-template-columns:12rem 1fr;gap:.8rem;padding:.25rem 0;border-top:1px solid var(--rule)}
.blame dt{font-weight:600}
.blame dd{margin:0;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.2rem 1.4rem;margin:.8rem 0 0}
.tiles dt{color:var(--quiet);font-size:.84rem}
.tiles dd{margin:0;line-height:1.3}
.tiles strong{font-size:1.2rem;display:block;font-variant-numeric:tabular-nums}
.tiles .quiet{font-size:.8rem}
.rungs>li{margin:.5rem 0}
.command{display:flex;gap:.5rem;align-items:flex-start;margin:.3rem 0}
.command pre{flex:1;margin:0;padding:.5rem .7rem;background:var(--raised);border:1px solid var(--rule);border-radius:4px;white-space:pre-wrap}

.scroll{overflow:auto;margin:.8rem 0;border:1px solid var(--rule);border-radius:4px}
.scroll:has(table.tall){max-height:36rem}
table{border-collapse:collapse;width:100%;font-size:.89rem}
caption{text-align:left;padding:.45rem .6rem;color:var(--quiet);font-size:.87rem;caption-side:top}
th,td{padding:.3rem .6rem;text-align:left;vertical-align:top;border-top:1px solid var(--rule)}
thead th{background:var(--raised);font-weight:600;white-space:nowrap}
.tall thead th{position:sticky;top:0;z-index:1}
tbody th{font-weight:500;min-width:9rem}
tbody tr:target{box-shadow:inset 3px 0 var(--second)}
tbody tr:hover{background:var(--raised)}
tbody tr.chosen{background:var(--raised);box-shadow:inset 3px 0 var(--first)}
.dense th,.dense td{padding:.16rem .4rem}
#linears-table,#videos-table{font-size:.84rem}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.note{color:var(--quiet);font-size:.94em;min-width:11rem}
.long{display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:2;overflow:hidden}
.tall .long{-webkit-line-clamp:1;max-width:24rem}
#linears-table th[scope=row],#linears-table td:nth-child(3){white-space:nowrap}
#videos-table td:first-child{min-width:16rem}
.hash{font-size:.82em;overflow-wrap:anywhere}
.plain{list-style:none;margin:0;padding:0}
.sort{all:unset;cursor:pointer;font:inherit;font-weight:600}
.sort:focus-visible{outline:2px solid var(--first);outline-offset:2px}
html.js .sort::after{content:" ↕";color:var(--quiet);font-weight:400}
html.js [aria-sort=ascending] .sort::after{content:" ↑";color:var(--ink)}
html.js [aria-sort=descending] .sort::after{content:" ↓";color:var(--ink)}

figure{margin:0}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,25rem),1fr));gap:1rem 1.5rem}
.plot figcaption{font-weight:600;font-size:.92rem;margin:.4rem 0 0;overflow-wrap:anywhere}
.chart{display:block;width:100%;height:auto;font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
.plots .chart{max-width:40rem}
.plot.wide{overflow-x:auto}
.plot.wide .chart{min-width:36rem}
#chart-cost{max-width:52rem}
.histogram .chart{max-width:46rem}
.figures{font-size:.87rem}
.figures summary,.histogram summary{cursor:pointer;color:var(--quiet)}
.figures .scroll{max-height:20rem}
.cursor{stroke:var(--second);stroke-width:1.5;visibility:hidden}
.js .cursor{visibility:visible}

.controls{display:flex;flex-wrap:wrap;gap:.5rem .8rem;align-items:center;margin:.6rem 0;font-size:.9rem}
.controls label{display:flex;gap:.4rem;align-items:center;color:var(--quiet)}
.controls .wide{flex:1 1 100%;min-width:0;max-width:100%}
.controls .wide select{flex:1;min-width:0}
.controls .grow{flex:1 1 12rem}
.controls .grow input{flex:1;min-width:5rem}
.controls output{font-variant-numeric:tabular-nums}
button,select,input{font:inherit;color:var(--ink);background:var(--raised);border:1px solid var(--rule);border-radius:4px;padding:.2rem .6rem;min-height:1.9rem}
input[type=range]{padding:0;accent-color:var(--first)}
button{cursor:pointer}
button:hover{border-color:var(--quiet)}
#frame-text{min-width:17rem}
#play{min-width:5.6rem}
.panes{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:.6rem;margin:.5rem 0}
.pane figcaption{font-size:.87rem;color:var(--quiet);display:flex;gap:.6rem;flex-wrap:wrap;justify-content:space-between;min-height:1.6rem}
.stage{overflow:auto;max-height:40rem;background:var(--raised);border-radius:4px}
.stage img,.stage canvas{display:block}
.sheet,.strip{max-width:100%;height:auto}
.stage canvas.fit{width:100%;height:auto}
.stage canvas.sharp{image-rendering:pixelated}
.scale{display:inline-flex;gap:.3rem;align-items:center;font-size:.8rem}
html.js .video:not(.chosen){display:none}
html.js .video.drawn .sheet{display:none}
html.js .histogram:not([open]){display:none}
html.js .histogram summary{display:none}

@media (max-width:40rem){
body{font-size:14px}
main,header>div{padding-left:.7rem;padding-right:.7rem}
.blame>div{grid-template-columns:1fr;gap:0}
.panes{grid-template-columns:1fr 1fr}
.pane.difference{grid-column:1/-1}
#frame-text{min-width:0;flex:1 1 100%}
header strong{display:none}
}
@media (prefers-reduced-motion:no-preference){html{scroll-behavior:smooth}}
@media print{
:root:root:root{${variables('light', LIGHT)}}
body{font-size:10pt}
header,.needs-script,.skip,.hint,.copy{display:none!important}
main{max-width:none;padding:0}
.scroll,.scroll:has(table.tall),.stage,.figures .scroll{overflow:visible;max-height:none}
.tall thead th{position:static}
html.js .video:not(.chosen){display:block}
html.js .video .sheet{display:block!important}
.stage canvas,.cursor{display:none}
.sheet{max-height:8cm;width:auto}
.sort::after{content:""!important}
table{font-size:7.5pt}
#linears-table,#videos-table{font-size:6pt}
.dense th,.dense td{padding:.05rem .2rem}
#linears-table .number,#linears-table th[scope=row]{white-space:nowrap;min-width:0}
#linears-table td.number:nth-child(5){white-space:normal}
th,td{padding:.1rem .25rem}
thead th,.number{white-space:normal}
.note,#videos-table td:first-child{min-width:0}
.verdict,.plot,.panes,.command,tr{break-inside:avoid}
.long,.tall .long{display:block;max-width:none}
h2,h3,caption{break-after:avoid}
}
`;
