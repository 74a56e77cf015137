// The search page's script. The page works without it: a form, links and native players.
import { startAsking } from "./ask.js";
import { startCamera } from "./camera.js";
import { startChips } from "./chips.js";
import { startChoice } from "./choose.js";
import { startCopying } from "./copy.js";
import "./look.js";
import { startFiles } from "./files.js";
import { startRecording } from "./record.js";
import { startThreshold } from "./threshold.js";
import { startWhere } from "./where.js";

document.body.classList.add("ready");
for (const start of [startChips, startThreshold, startChoice, startCopying, startFiles, startRecording, startCamera, startWhere, startAsking]) start();
document.body.dataset.started = "yes";
