#!/usr/bin/env bash
# Makes the recordings that fuzzing starts from: make_seeds.sh DIR. Needs ffmpeg.
# A sweep of a quarter of a second in every container and codec, synthesised, so nobody's but ours.
set -euo pipefail
mkdir -p "$1" && cd "$1"

sweep='aevalsrc=0.4*sin(2*PI*(200+2000*t)*t)+0.02*random(0)'
make() { # NAME SECONDS RATE CHANNELS OPTIONS...
  local name=$1 seconds=$2 rate=$3 channels=$4
  shift 4
  ffmpeg -nostdin -v error -y -f lavfi -i "$sweep:s=$rate:d=$seconds" -ac "$channels" -ar "$rate" \
    -map_metadata -1 -fflags +bitexact -flags:a +bitexact "$@" "$name" || echo "no $name" >&2
}

for codec in pcm_u8 pcm_s16le pcm_s24le pcm_s32le pcm_f32le pcm_f64le pcm_alaw pcm_mulaw; do
  make "$codec.wav" 0.05 8000 1 -c:a "$codec"
done
make stereo.wav 0.05 8000 2 -c:a pcm_s16le
make ima.wav 0.1 8000 1 -c:a adpcm_ima_wav
make ms.wav 0.1 8000 1 -c:a adpcm_ms
make rf64.wav 0.05 8000 1 -rf64 always
make sweep.w64 0.05 8000 1
make sweep.au 0.05 8000 1 -c:a pcm_mulaw
make sweep.aiff 0.05 8000 1
make sowt.aifc 0.05 8000 1 -c:a pcm_s16le -f aiff
make pcm.caf 0.05 8000 1 -c:a pcm_s16be
make alac.caf 0.1 16000 1 -c:a alac
make alac.m4a 0.1 16000 1 -c:a alac
make aac.m4a 0.25 16000 1 -c:a aac -b:a 24k
make stereo.m4a 0.25 44100 2 -c:a aac -b:a 48k -movflags +faststart
make fragmented.mp4 0.25 16000 1 -c:a aac -b:a 24k -movflags +frag_keyframe+empty_moov+default_base_moof
make sweep.aac 0.25 16000 1 -c:a aac -b:a 24k
make aac.ts 0.25 16000 1 -c:a aac -b:a 24k -f mpegts
make aac.flv 0.25 44100 1 -c:a aac -b:a 24k
make pcm.avi 0.05 8000 1 -c:a pcm_s16le
make mp3.avi 0.25 16000 1 -c:a libmp3lame -b:a 16k
make sweep.mp3 0.25 16000 1 -c:a libmp3lame -b:a 16k
make vbr.mp3 0.25 44100 2 -c:a libmp3lame -q:a 9
make mpeg25.mp3 0.25 8000 1 -c:a libmp3lame -b:a 8k
make sweep.mp2 0.25 16000 1 -c:a mp2 -b:a 32k
make sweep.flac 0.1 16000 1
make stereo.flac 0.05 44100 2 -sample_fmt s32
make flac.oga 0.1 16000 1 -c:a flac
make vorbis.ogg 0.25 16000 1 -c:a libvorbis -q:a 0
make sweep.opus 0.25 16000 1 -c:a libopus -b:a 12k
make stereo.opus 0.25 48000 2 -c:a libopus -b:a 24k
make opus.webm 0.25 16000 1 -c:a libopus -b:a 12k
make vorbis.mkv 0.25 16000 1 -c:a libvorbis -q:a 0
make flac.mka 0.1 16000 1 -c:a flac
make pcm.mkv 0.05 8000 1 -c:a pcm_s16le
make sweep.ac3 0.1 48000 1 -c:a ac3 -b:a 64k
make sweep.tta 0.1 8000 1
make sweep.wv 0.1 8000 1 -c:a wavpack
make sweep.wma 0.25 16000 1 -c:a wmav2 -b:a 24k
